"""Redirects and token services of a registry with TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from servers.scripted import Asked, Reply, Scripted

from edgec.errors import PublishError
from edgec.publish.oci import credentials
from edgec.publish.oci.connection import Connection
from edgec.publish.transfer import RetryPolicy

FINE = frozenset({200})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Ours."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def believed(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our authority is believed, and credentials are in the environment."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv(credentials.USER, "me")
    monkeypatch.setenv(credentials.PASSWORD, "swordfish")


def ask(host: str, path: str) -> bytes:
    with Connection(host, RetryPolicy(timeout=2.0)).request("GET", path, expect=FINE) as answer:
        return answer.body()


def test_redirect_to_plain_http_is_refused(authority: trustme.CA) -> None:
    with (
        Scripted(lambda asked: Reply()) as plain,
        Scripted(lambda asked: Reply(307, {"Location": f"http://{plain.host}/x"}), authority) as registry,
        pytest.raises(PublishError, match="from https to http"),
    ):
        ask(registry.host, "/v2/x")
    assert plain.asked == []


def test_redirect_to_another_host_with_tls_is_followed(authority: trustme.CA) -> None:
    with (
        Scripted(lambda asked: Reply(content=b"there"), authority) as other,
        Scripted(lambda asked: Reply(307, {"Location": f"https://{other.host}/x"}), authority) as registry,
    ):
        assert ask(registry.host, "/v2/x") == b"there"


def test_token_service_without_tls_gets_no_password(authority: trustme.CA) -> None:
    with Scripted(lambda asked: Reply(content=b'{"token":"x"}')) as plain:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{plain.host}/token"'}
        with (
            Scripted(lambda asked: Reply(401, challenge), authority) as registry,
            pytest.raises(PublishError, match="sent without TLS"),
        ):
            ask(registry.host, "/v2/x")
    assert plain.asked == []


def test_own_urls_use_tls_whatever_the_registry_writes(authority: trustme.CA) -> None:
    """A registry behind a proxy that ends TLS takes itself for one of http."""

    def script(asked: Asked) -> Reply:
        return Reply(content=asked.path.encode())

    with Scripted(script, authority) as registry:
        assert ask(registry.host, f"http://{registry.host}/v2/uploads/1?_state=x") == b"/v2/uploads/1?_state=x"
