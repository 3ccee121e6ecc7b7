"""Registries that want to know who we are, and whose certificates nobody but us believes: docker-registry does both."""

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
from edgec.publish.oci import credentials
from edgec.publish.oci.store import OciStore
from edgec.publish.outgoing import outgoing
from edgec.publish.place import OciPlace
from edgec.publish.pull import pull
from edgec.publish.transfer import Patience

HASTY = Patience(timeout=5.0, retries=2, wait=0.01)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of docker's configuration with nothing in it; nobody's credentials or certificates are set."""
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
    """A certificate authority of one's own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[DebianRegistry]:
    """A registry with TLS."""
    server = DebianRegistry(tmp_path_factory.mktemp("encrypted"), authority=authority)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """A token service that lets nobody push."""
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
    place = OciPlace(registry.host, "models/digits")
    said: list[str] = []
    OciStore(place, HASTY).publish(outgoing([bundle], said.append), add=False, progress=said.append)
    (one,) = pull(place, ["*"], out, patience=HASTY, progress=said.append)
    assert bundle_files(one.path) == bundle_files(bundle)
    assert PASSWORD not in " ".join(said)


def login(home: Path, host: str, user: str = USER, password: str = PASSWORD) -> None:
    packed = base64.b64encode(f"{user}:{password}".encode()).decode()
    (home / "config.json").write_text(json.dumps({"auths": {host: {"auth": packed}}}))


def refusal(registry: DebianRegistry, bundle: Path, out: Path) -> EdgecError:
    """How publishing and pulling are refused: alike, and at once."""
    began = time.monotonic()
    place = OciPlace(registry.host, "models/digits")
    with pytest.raises(EdgecError) as pushed:
        OciStore(place, HASTY).publish(outgoing([bundle], lambda step: None), add=False, progress=lambda step: None)
    with pytest.raises(EdgecError) as pulled:
        list(pull(place, ["*"], out, patience=HASTY))
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


def test_tls_with_an_authority_that_nobody_knows(encrypted: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    error = refusal(encrypted, bundle, tmp_path / "out")
    assert isinstance(error, PublishError)
    assert "certificate is not to be trusted" in str(error)
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
    with pytest.raises(PublishError, match=r"certificate is not to be trusted: .*not valid for 'localhost'"):
        list(pull(OciPlace(server.host, "x"), ["*"], tmp_path / "out", patience=HASTY))
    server.stop()


@pytest.mark.parametrize(("content", "told"), [(None, "cannot be read"), ("no certificate", "without certificates")])
def test_tls_with_a_file_that_is_none(
    encrypted: DebianRegistry,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    told: str,
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    error = refusal(encrypted, bundle, tmp_path / "out")
    assert f"SSL_CERT_FILE names a file {told}" in str(error).replace("that ", "")
    assert str(file) in str(error)


def test_http_is_for_this_machine_and_hosts_that_are_named(
    closed: DebianRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is no loopback name is spoken to in TLS, and docker-registry does not speak it."""
    found = socket.getaddrinfo

    def resolve(host: str, *rest: object, **more: object) -> object:
        return found("127.0.0.1" if host == "registry.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    place = OciPlace(f"registry.test:{closed.port}", "models/digits")
    with pytest.raises(PublishError, match="no TLS is spoken there") as error:
        list(pull(place, ["*"], tmp_path / "out", patience=HASTY))
    assert f"EDGEC_REGISTRY_INSECURE={place.registry}" in str(error.value)
    monkeypatch.setenv("EDGEC_REGISTRY_INSECURE", f"other.test,{place.registry}")
    with pytest.raises(CredentialsError):
        list(pull(place, ["*"], tmp_path / "out", patience=HASTY))


def test_token_for_nobody_reads_and_does_not_write(
    tokened: DebianRegistry, service: TokenServer, bundle: Path, tmp_path: Path, home: Path
) -> None:
    place = OciPlace(tokened.host, "models/digits")
    with pytest.raises(CredentialsError, match="docker login"):
        OciStore(place, HASTY).publish(outgoing([bundle], lambda step: None), add=False, progress=lambda step: None)
    login(home, tokened.host)
    there_and_back(tokened, bundle, tmp_path / "first")
    (home / "config.json").unlink()
    service.asked.clear()
    (one,) = pull(place, ["*"], tmp_path / "second", patience=HASTY)
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
