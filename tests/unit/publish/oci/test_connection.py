"""What one request does with redirects, busy servers and secrets; the servers are scripted, the network is real."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from servers.scripted import Asked, Reply, Scripted

from edgec.errors import CredentialsError, PublishError
from edgec.publish.oci import credentials
from edgec.publish.oci.authentication import parse_challenges
from edgec.publish.oci.connection import MAX_DOCUMENT, Connection
from edgec.publish.oci.failures import error_message
from edgec.publish.oci.tls import is_loopback, split_host
from edgec.publish.transfer import RetryPolicy, TransientError, retry

HASTY = RetryPolicy(timeout=2.0, retries=2, wait=0.01)
FINE = frozenset({200})
SECRET = "swordfish"


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment, and none of docker's."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv(credentials.USER, "me")
    monkeypatch.setenv(credentials.PASSWORD, SECRET)


def ask(host: str, path: str = "/v2/x/blobs/y", method: str = "GET") -> bytes:
    with Connection(host, HASTY).request(method, path, expect=FINE) as answer:
        return answer.body()


def basic(asked: Asked) -> Reply | None:
    """Ask for a password when none is given."""
    if "Authorization" in asked.headers:
        return None
    return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})


def test_redirect_to_another_host_is_followed_without_credentials() -> None:
    with (
        Scripted(lambda asked: Reply(content=b"from the other")) as other,
        Scripted(lambda asked: basic(asked) or Reply(307, {"Location": f"http://{other.host}/data?sig=1"})) as registry,
    ):
        assert ask(registry.host) == b"from the other"
    assert "Authorization" in registry.asked[-1].headers
    (there,) = other.asked
    assert there.path == "/data?sig=1"
    assert "Authorization" not in there.headers


def test_redirect_within_the_registry_keeps_credentials() -> None:
    def script(asked: Asked) -> Reply:
        if asked.path == "/elsewhere":
            return basic(asked) or Reply(content=b"here")
        return Reply(307, {"Location": "/elsewhere"})

    with Scripted(script) as registry:
        assert ask(registry.host) == b"here"


def test_another_host_that_asks_for_a_password_gets_none() -> None:
    with (
        Scripted(lambda asked: Reply(401, {"WWW-Authenticate": 'Basic realm="give"'})) as other,
        Scripted(lambda asked: Reply(302, {"Location": f"http://{other.host}/data"})) as registry,
        pytest.raises(CredentialsError),
    ):
        ask(registry.host)
    assert all("Authorization" not in asked.headers for asked in other.asked)


def test_redirects_end() -> None:
    with (
        Scripted(lambda asked: Reply(302, {"Location": asked.path + "x"})) as registry,
        pytest.raises(PublishError, match="redirects more than 5 times"),
    ):
        ask(registry.host)


ADDRESSES = ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "http://h:99999/", "http://h:x/")


@pytest.mark.parametrize("location", ADDRESSES)
def test_redirect_to_an_invalid_url_is_refused(location: str) -> None:
    with (
        Scripted(lambda asked: Reply(302, {"Location": location})) as registry,
        pytest.raises(PublishError, match="redirects to an invalid URL"),
    ):
        ask(registry.host)


@pytest.mark.parametrize("realm", [*ADDRESSES, "http:///x", "/x", "x"])
def test_token_service_with_an_invalid_url_is_refused(realm: str) -> None:
    with (
        Scripted(lambda asked: Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})) as registry,
        pytest.raises(PublishError, match="invalid URL as its token service"),
    ):
        ask(registry.host)


def test_passwords_in_a_redirect_are_not_used() -> None:
    with (
        Scripted(lambda asked: Reply()) as other,
        Scripted(lambda asked: Reply(307, {"Location": f"http://you:{SECRET}@{other.host}/x"})) as registry,
    ):
        ask(registry.host)
    assert "Authorization" not in other.asked[0].headers


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_server_is_asked_again(status: int) -> None:
    replies = [Reply(status), Reply(status), Reply(content=b"at last")]
    with Scripted(lambda asked: replies.pop(0)) as registry:
        assert retry(lambda: ask(registry.host), HASTY, lambda step: None, "get") == b"at last"


def test_busy_server_sets_the_wait() -> None:
    replies = [Reply(429, {"Retry-After": "1"}), Reply()]
    with Scripted(lambda asked: replies.pop(0)) as registry:
        began = time.monotonic()
        retry(lambda: ask(registry.host), HASTY, lambda step: None, "get")
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("when", ["\u00b2", "-5", "soon", "Thu, 99 Foo 2026", "Thu, 01 Jan 1970 00:00:00 GMT", ""])
def test_invalid_retry_after_is_ignored(when: str) -> None:
    replies = [Reply(503, {"Retry-After": when}), Reply()]
    with Scripted(lambda asked: replies.pop(0)) as registry:
        began = time.monotonic()
        retry(lambda: ask(registry.host), HASTY, lambda step: None, "get")
        assert time.monotonic() - began < 1


def test_busy_server_is_asked_a_limited_number_of_times() -> None:
    with (
        Scripted(lambda asked: Reply(503, content=b'{"errors":[{"code":"X","message":"no \\n room"}]}')) as registry,
        pytest.raises(TransientError, match=r'answers 503 \("no   room"\) \(3 tries\)'),
    ):
        retry(lambda: ask(registry.host), HASTY, lambda step: None, "get")
    assert len(registry.asked) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 413, 501])
def test_refusal_is_final_and_its_message_has_no_secret(status: int) -> None:
    with Scripted(lambda asked: basic(asked) or Reply(status)) as registry:
        with pytest.raises((PublishError, CredentialsError)) as error:
            retry(lambda: ask(registry.host, "/v2/x/uploads/1?_state=hidden", "PUT"), HASTY, lambda step: None, "send")
        assert len(registry.asked) == 2
    assert isinstance(error.value, CredentialsError) == (status == 403)
    for secret in ("hidden", SECRET, "c3dvcmRmaXNo"):
        assert secret not in str(error.value)
    assert "/v2/x/uploads/1" in str(error.value)


def test_message_of_a_broken_connection_has_no_secret() -> None:
    with Scripted(lambda asked: Reply(headers={"Content-Length": "100"}, content=b"short")) as registry:
        connection = Connection(registry.host, RetryPolicy(timeout=0.3))
        with (
            pytest.raises(TransientError) as error,
            connection.request("GET", "/v2/x/uploads/1?_state=hidden", expect=FINE) as answer,
        ):
            answer.body()
    assert "hidden" not in str(error.value)


def test_document_without_end_is_not_read() -> None:
    with (
        Scripted(lambda asked: Reply(content=bytes(MAX_DOCUMENT + 1))) as registry,
        pytest.raises(PublishError, match="longer than 4 MiB"),
    ):
        ask(registry.host)


def test_wrong_password_is_given_once() -> None:
    with (
        Scripted(lambda asked: Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})) as registry,
        pytest.raises(CredentialsError, match="refuses the credentials from EDGEC_REGISTRY_USER"),
    ):
        ask(registry.host)
    assert len(registry.asked) == 2


def test_token_that_is_too_old_is_replaced() -> None:
    tokens = iter(["old", "new"])

    def script(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return Reply(content=b'{"access_token":"%s"}' % next(tokens).encode())
        if asked.headers.get("Authorization") == "Bearer new":
            return Reply(content=b"yes")
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["Host"]}/token",service="s"'})

    with Scripted(script) as registry:
        assert ask(registry.host) == b"yes"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"token":7}', b'{"token":"a\\nb"}', b"{" * 9999])
def test_token_service_that_returns_no_token(content: bytes) -> None:
    def script(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return Reply(content=content)
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["Host"]}/token"'})

    with Scripted(script) as registry, pytest.raises(PublishError, match="returned no valid token"):
        ask(registry.host)


@pytest.mark.parametrize("header", ["", "Negotiate", "Digest realm=x", "Bearer", 'Bearer realm="/token"'])
def test_unsupported_authentication_scheme(header: str) -> None:
    with (
        Scripted(lambda asked: Reply(401, {"WWW-Authenticate": header})) as registry,
        pytest.raises(PublishError, match=r"authentication scheme|invalid URL as its token service"),
    ):
        ask(registry.host)


def test_proxies_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(lambda asked: Reply(content=b"direct")) as registry:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert ask(registry.host) == b"direct"


def test_proxy_of_the_environment_is_asked_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(lambda asked: Reply(content=asked.path.encode())) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@{proxy.host}")
        monkeypatch.setenv("EDGEC_REGISTRY_INSECURE", "registry.invalid")
        assert ask("registry.invalid", "/v2/") == b"http://registry.invalid/v2/"
    assert proxy.asked[0].headers["Proxy-Authorization"].startswith("Basic ")
    monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:9")
    with pytest.raises(TransientError, match="connection through the proxy failed") as error:
        ask("registry.invalid", "/v2/")
    assert SECRET not in str(error.value)


def test_challenges() -> None:
    header = 'Bearer realm="https://a/t?x=\\"Basic \\"",service=s,scope="repository:x:pull,push", Basic realm="b"'
    assert parse_challenges(header) == {
        "bearer": {"realm": 'https://a/t?x="Basic "', "service": "s", "scope": "repository:x:pull,push"},
        "basic": {"realm": "b"},
    }
    assert parse_challenges("") == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"errors":1}', b'{"errors":[1]}', b"[" * 9999, b"\xff"])
def test_invalid_error_body(content: bytes) -> None:
    assert error_message(content) == ""


HERE = ("localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "a.localhost:1")
ELSEWHERE = ("localhost.example.com", "10.0.0.1:5000", "127.0.0.1.nip.io", "registry.local")


@pytest.mark.parametrize(("host", "here"), [(host, host in HERE) for host in (*HERE, *ELSEWHERE)])
def test_is_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) == here


@pytest.mark.parametrize(
    ("host", "parts"), [("a:5", ("a", 5)), ("a", ("a", None)), ("[::1]:5", ("::1", 5)), ("[::1]", ("::1", None))]
)
def test_host_and_port(host: str, parts: tuple[str, int | None]) -> None:
    assert split_host(host) == parts
