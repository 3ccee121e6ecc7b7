"""HTTP requests to one registry: authentication, redirects, proxies, TLS, time-outs and errors.

urllib3 alone, not a client library: oras 0.2.43 has no time-out, retries every failure five times (a wrong password for
two minutes), must know beforehand how a registry authenticates, and quotes upload URLs, which may hold secrets, in its
errors. urllib3's own redirects are not used: the proxy is chosen for each host, and https must not become http.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import parse_url

from edgec.errors import PublishError
from edgec.publish.oci.authentication import Authenticator, web_url
from edgec.publish.oci.credentials import DOCKER_HUB, DOCKER_HUB_API
from edgec.publish.oci.failures import BUSY, busy_error, connection_error, error_message, refusal
from edgec.publish.oci.tls import is_loopback, scheme_of, tls_context
from edgec.publish.transfer import RetryPolicy

MAX_REDIRECTS = 5
"""Redirects that one request follows."""
MAX_DOCUMENT = 4 << 20
"""Bytes of a manifest or a response at most, as registries have it (distribution-spec 1.1, "Pushing Manifests")."""
BLOCK = 1 << 16
"""Bytes that are sent or read at once. Each block must pass within the time-out, and a download that breaks loses one
at most."""


@dataclass(frozen=True)
class Response:
    """A response of a registry; its body has not been read yet."""

    status: int
    headers: Mapping[str, str]
    url: str
    """After redirects."""
    where: str
    """The URL without user and query, for messages."""
    _raw: urllib3.BaseHTTPResponse

    def body(self) -> bytes:
        """The whole of a short body.

        Raises:
            PublishError: it is longer than `MAX_DOCUMENT`.
            TransientError: the connection broke.
        """
        try:
            content = self._raw.read(MAX_DOCUMENT + 1, decode_content=False)
        except (HTTPError, OSError) as exc:
            raise connection_error(exc, self.where) from exc
        if len(content) > MAX_DOCUMENT:
            raise PublishError(f"the response is longer than {MAX_DOCUMENT >> 20} MiB", where=self.where)
        return content

    def pieces(self) -> Iterator[bytes]:
        """The body in blocks as they arrive, however long it is.

        Raises:
            TransientError: the connection broke.
        """
        try:
            yield from self._raw.stream(BLOCK, decode_content=False)
        except (HTTPError, OSError) as exc:
            raise connection_error(exc, self.where) from exc

    def require(self, statuses: frozenset[int], method: str) -> None:
        """Raise the error that a status means, unless it is one of `statuses`.

        Raises:
            TransientError: the server is busy.
            CredentialsError: the user has no permission.
            PublishError: any other status.
        """
        if self.status in statuses:
            return
        try:
            message = error_message(self.body())
        except PublishError:
            message = ""
        if self.status in BUSY:
            raise busy_error(self.status, message, self.where, self._retry_after())
        raise refusal(method, self.status, message, self.where)

    def _retry_after(self) -> float:
        """Seconds of a ``Retry-After`` header (RFC 9110, 10.2.3); 0 where there is none or it is invalid."""
        try:
            return urllib3.Retry().get_retry_after(self._raw) or 0.0
        except (InvalidHeader, ValueError, OverflowError):
            return 0.0


class Connection:
    """Requests to one registry, from one thread.

    Args:
        host: ``name[:port]``, as the user wrote it.
        policy: its time-out applies to each connection and to each wait for data.
    """

    def __init__(self, host: str, policy: RetryPolicy) -> None:
        self.host = DOCKER_HUB_API if host in {DOCKER_HUB, f"index.{DOCKER_HUB}"} else host
        self._timeout = policy.timeout
        self._authenticator = Authenticator(self.host, self._request_token)
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._headers = {
            "User-Agent": f"edgec/{version('edgec')}",
            "Accept-Encoding": "identity",  # the digest is that of the bytes as they are stored
        }

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        expect: frozenset[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[Response]:
        """Send one request, with credentials when the registry asks for them.

        Args:
            method: HTTP method.
            url: path at the registry, or the value of a ``Location`` header.
            expect: statuses that the caller handles; all others are errors.
            headers: in addition to those of authentication.
            body: what is sent; an iterable is iterated anew for each attempt and needs a ``Content-Length`` header.

        Raises:
            TransientError: no response, a broken connection, or a busy server.
            CredentialsError: credentials are missing or refused.
            PublishError: an unexpected status, an invalid redirect, or a certificate that cannot be verified.
        """
        url = self._absolute(url)
        for _ in range(3):  # anonymous; authenticated; and with a new token for one that expired or had a smaller scope
            with self._follow(method, url, headers or {}, body) as response:
                if response.status != 401 or not self._is_own(response.url):
                    response.require(expect, method)
                    yield response
                    return
                self._authenticator.answer_challenge(response.headers, response.where)
        raise self._authenticator.refused(f"{self.host}{urlsplit(url).path}")

    @cached_property
    def _base(self) -> str:
        try:
            return f"{scheme_of(self.host, self._timeout)}://{self.host}"
        except OSError as exc:
            raise connection_error(exc, self.host) from exc

    def _absolute(self, url: str) -> str:
        if url.startswith(f"http://{self.host}/"):  # behind a proxy that terminates TLS, registries write http
            url = urlsplit(self._base).scheme + url.removeprefix("http")
        return _redirected(self._base, url, self.host)

    def _is_own(self, url: str) -> bool:
        """Whether a URL has the registry's origin (RFC 6454): no other receives credentials."""
        return _origin(url) == _origin(self._base)

    @contextmanager
    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> Iterator[Response]:
        """The response at the end of all redirects."""
        for _ in range(MAX_REDIRECTS + 1):
            authorization = self._authenticator.authorization if self._is_own(url) else ""
            sent = {**headers, "Authorization": authorization} if authorization else headers
            with self._send(method, url, sent, body) as response:
                target = response.headers.get("Location", "")
                moved = response.status in ({301, 302, 303, 307, 308} if method in {"GET", "HEAD"} else {307, 308})
                if not moved or not target:
                    yield response
                    return
                url = _redirected(url, target, response.where)
        raise PublishError(f"the registry redirects more than {MAX_REDIRECTS} times", where=response.where)

    @contextmanager
    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> Iterator[Response]:
        parts = urlsplit(url)
        where = f"{parts.netloc}{parts.path}"
        try:
            raw = self._pool(parts.scheme, parts.netloc).request(
                method, url, headers={**self._headers, **headers}, body=body, timeout=self._timeout,
                preload_content=False, redirect=False, retries=False,
            )  # fmt: skip
        except (HTTPError, OSError) as exc:
            raise connection_error(exc, where) from exc
        with contextlib.closing(raw):
            yield Response(raw.status, raw.headers, url, where, raw)
            with contextlib.suppress(HTTPError, OSError):
                raw.read(BLOCK, decode_content=False)  # keeps the connection for the next request if this was the rest

    def _pool(self, scheme: str, netloc: str) -> urllib3.PoolManager:
        origin = f"{scheme}://{netloc}"
        if origin not in self._pools:
            context = tls_context(netloc) if scheme == "https" else None
            proxy = getproxies().get(scheme, "")
            if not proxy or is_loopback(netloc) or proxy_bypass(netloc):
                self._pools[origin] = urllib3.PoolManager(ssl_context=context)
            else:
                address = parse_url(proxy if "://" in proxy else f"http://{proxy}")
                if address.scheme not in {"http", "https"}:
                    raise PublishError(f"proxies of the kind {address.scheme}:// are not supported", where=netloc)
                credentials = urllib3.make_headers(proxy_basic_auth=address.auth) if address.auth else None
                self._pools[origin] = urllib3.ProxyManager(
                    address._replace(auth=None).url, proxy_headers=credentials, ssl_context=context
                )
        return self._pools[origin]

    def _request_token(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """Status and body of a request to a token service, for `Authenticator`."""
        if url.startswith("http:") and not self._base.startswith("http:"):
            raise PublishError(
                "the registry asks for its credentials to be sent without TLS", where=urlsplit(url).netloc
            )
        with self._send(method, url, headers, body) as response:
            if response.status in BUSY:
                response.require(frozenset(), method)
            return response.status, response.body()


def _redirected(url: str, target: str, where: str) -> str:
    try:
        address = web_url(urljoin(url, target))
    except ValueError:
        raise PublishError("the registry redirects to an invalid URL", where=where) from None
    if url.startswith("https:") and address.startswith("http:"):
        raise PublishError("the registry redirects from https to http", where=where)
    return address


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
