"""Authentication and certificates, with docker-registry."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from servers.registry import PASSWORD, USER, DebianRegistry
from servers.tokens import REFRESH, TokenServer

from edgec.bundle.files import bundle_files
from edgec.errors import CredentialsError, EdgecError, PublishError
from edgec.publish.collect import collect_bundles
from edgec.publish.location import OciLocation
from edgec.publish.oci import credentials
from edgec.publish.oci.store import OciStore
from edgec.publish.pull import pull
from edgec.publish.transfer import RetryPolicy

HASTY = RetryPolicy(timeout=5.0, retries=2, wait=0.01)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of docker's configuration with nothing in it; no credentials or certificates are set."""
    for name in (credentials.USER, credentials.PASSWORD, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """A registry with passwords."""
    server = DebianRegistry(tmp_path_factory.mktemp("closed"), htpasswd=True)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[DebianRegistry]:
    """A registry with TLS."""
    server = DebianRegistry(tmp_path_factory.mktemp("encrypted"), authority=authority)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """A token service that gives anonymous clients no push permission."""
    with TokenServer(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(scope="module")
def tokened(tmp_path_factory: pytest.TempPathFactory, service: TokenServer) -> Iterator[DebianRegistry]:
    """A registry that sends its clients to `service`."""
    server = DebianRegistry(tmp_path_factory.mktemp("tokened"), tokens=service.service)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to publish; for reading."""
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def there_and_back(registry: DebianRegistry, bundle: Path, out: Path) -> None:
    location = OciLocation(registry.host, "models/digits")
    said: list[str] = []
    OciStore(location, HASTY).publish(collect_bundles([bundle], said.append), add=False, progress=said.append)
    (one,) = pull(location, ["*"], out, policy=HASTY, progress=said.append)
    assert bundle_files(one.path) == bundle_files(bundle)
    assert PASSWORD not in " ".join(said)


def login(home: Path, host: str, user: str = USER, password: str = PASSWORD) -> None:
    packed = base64.b64encode(f"{user}:{password}".encode()).decode()
    (home / "config.json").write_text(json.dumps({"auths": {host: {"auth": packed}}}))


def refusal(registry: DebianRegistry, bundle: Path, out: Path) -> EdgecError:
    """The error of publishing and of pulling: the same, and without a retry."""
    began = time.monotonic()
    location = OciLocation(registry.host, "models/digits")
    with pytest.raises(EdgecError) as pushed:
        OciStore(location, HASTY).publish(
            collect_bundles([bundle], lambda step: None), add=False, progress=lambda step: None
        )
    with pytest.raises(EdgecError) as pulled:
        list(pull(location, ["*"], out, policy=HASTY))
    assert type(pushed.value) is type(pulled.value)
    assert time.monotonic() - began < 5
    assert not [path for path in out.glob("*") if path.name != ".work"]
    return pushed.value


def test_basic_from_the_environment(
    closed: DebianRegistry, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(credentials.USER, USER)
    monkeypatch.setenv(credentials.PASSWORD, PASSWORD)
    there_and_back(closed, bundle, tmp_path / "out")


def test_basic_from_docker_login(closed: DebianRegistry, bundle: Path, tmp_path: Path, home: Path) -> None:
    login(home, closed.host)
    there_and_back(closed, bundle, tmp_path / "out")


def test_basic_without_credentials(closed: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    error = refusal(closed, bundle, tmp_path / "out")
    assert isinstance(error, CredentialsError)
    assert f"docker login {closed.host}" in str(error)


def test_basic_with_a_wrong_password(closed: DebianRegistry, bundle: Path, tmp_path: Path, home: Path) -> None:
    login(home, closed.host, password="wrong-and-secret")
    error = refusal(closed, bundle, tmp_path / "out")
    assert isinstance(error, CredentialsError)
    assert "refuses the credentials" in str(error)
    assert str(home / "config.json") in str(error)
    assert "wrong-and-secret" not in str(error)


def test_tls_with_an_unknown_authority(encrypted: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    error = refusal(encrypted, bundle, tmp_path / "out")
    assert isinstance(error, PublishError)
    assert "certificate cannot be verified" in str(error)
    assert f"certs.d/{encrypted.host}/ca.crt" in str(error)
    assert "SSL_CERT_FILE" in str(error)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_tls_with_an_authority_of_the_environment(
    encrypted: DebianRegistry,
    authority: trustme.CA,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    there_and_back(encrypted, bundle, tmp_path / "out")


def test_tls_with_an_authority_of_docker(
    encrypted: DebianRegistry, authority: trustme.CA, bundle: Path, tmp_path: Path, home: Path
) -> None:
    folder = home / "certs.d" / encrypted.host
    folder.mkdir(parents=True)
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    there_and_back(encrypted, bundle, tmp_path / "out")


def test_tls_for_another_name(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = DebianRegistry(tmp_path / "registry", authority=authority, names=("other.test",))
    with pytest.raises(PublishError, match=r"certificate cannot be verified: .*not valid for 'localhost'"):
        list(pull(OciLocation(server.host, "x"), ["*"], tmp_path / "out", policy=HASTY))
    server.stop()


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot be read"), ("no certificate", "without certificates")])
def test_tls_with_an_invalid_file(
    encrypted: DebianRegistry,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    problem: str,
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    error = refusal(encrypted, bundle, tmp_path / "out")
    assert f"SSL_CERT_FILE names a file {problem}" in str(error).replace("that ", "")
    assert str(file) in str(error)


def test_http_is_for_this_machine_and_hosts_that_are_named(
    closed: DebianRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is not this machine needs TLS, which this docker-registry does not serve."""
    found = socket.getaddrinfo

    def resolve(host: str, *rest: object, **more: object) -> object:
        return found("127.0.0.1" if host == "registry.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    location = OciLocation(f"registry.test:{closed.port}", "models/digits")
    with pytest.raises(PublishError, match="does not use TLS") as error:
        list(pull(location, ["*"], tmp_path / "out", policy=HASTY))
    assert f"EDGEC_REGISTRY_INSECURE={location.registry}" in str(error.value)
    monkeypatch.setenv("EDGEC_REGISTRY_INSECURE", f"other.test,{location.registry}")
    with pytest.raises(CredentialsError):
        list(pull(location, ["*"], tmp_path / "out", policy=HASTY))


def test_anonymous_token_reads_and_does_not_write(
    tokened: DebianRegistry, service: TokenServer, bundle: Path, tmp_path: Path, home: Path
) -> None:
    location = OciLocation(tokened.host, "models/digits")
    with pytest.raises(CredentialsError, match="docker login"):
        OciStore(location, HASTY).publish(
            collect_bundles([bundle], lambda step: None), add=False, progress=lambda step: None
        )
    login(home, tokened.host)
    there_and_back(tokened, bundle, tmp_path / "first")
    (home / "config.json").unlink()
    service.asked.clear()
    (one,) = pull(location, ["*"], tmp_path / "second", policy=HASTY)
    assert bundle_files(one.path) == bundle_files(bundle)
    assert service.asked == [""]  # one token for the whole pull


def test_token_with_a_wrong_password(tokened: DebianRegistry, bundle: Path, tmp_path: Path, home: Path) -> None:
    login(home, tokened.host, password="wrong-and-secret")
    error = refusal(tokened, bundle, tmp_path / "out")
    assert isinstance(error, CredentialsError)
    assert "refuses the credentials" in str(error)
    assert "wrong-and-secret" not in str(error)


def test_identity_token(
    tokened: DebianRegistry, service: TokenServer, bundle: Path, tmp_path: Path, home: Path
) -> None:
    (home / "config.json").write_text(json.dumps({"auths": {tokened.host: {"identitytoken": REFRESH}}}))
    service.asked.clear()
    there_and_back(tokened, bundle, tmp_path / "out")
    assert set(service.asked) == {USER}


def test_expired_identity_token(tokened: DebianRegistry, bundle: Path, tmp_path: Path, home: Path) -> None:
    (home / "config.json").write_text(json.dumps({"auths": {tokened.host: {"identitytoken": "too-old-and-secret"}}}))
    error = refusal(tokened, bundle, tmp_path / "out")
    assert isinstance(error, CredentialsError)
    assert "too-old-and-secret" not in str(error)
