"""HTTP with one registry: who is believed, who we are, time-outs, redirects; and every failure told in our words.

urllib3 alone, not a client library: what oras 0.2.43 brings on top has no time-out, tries any failure five times (a
wrong password for two minutes), must be told beforehand how a registry authenticates, and puts the addresses of
uploads, which may hold secrets, into its errors.
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import BinaryIO, Protocol
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

from edgec.errors import PublishError
from edgec.publish.oci.credentials import DOCKER_HUB, DOCKER_HUB_API
from edgec.publish.oci.failures import BUSY, busy, failure, refused, registry_words
from edgec.publish.oci.identity import Identity, web_address
from edgec.publish.oci.trust import is_loopback, scheme_of, tls_context
from edgec.publish.transfer import Patience

REDIRECTS = 5
"""How often a registry may send us elsewhere for one request."""
LARGEST_DOCUMENT = 4 << 20
"""Bytes of a manifest or an answer at most, as registries have it (distribution-spec 1.1, "Pushing Manifests")."""
BLOCK = 1 << 16
"""Bytes that are sent or read at once: each of these must pass within the time-out, and as much is lost of a
download that breaks."""


class Sendable(Protocol):
    """A request's body: `size` bytes, opened anew for each try."""

    @property
    def size(self) -> int:
        """Bytes."""

    def open(self) -> BinaryIO:
        """The bytes from the beginning."""


@dataclass(frozen=True)
class Answer:
    """What a registry answered; its body has not been read yet."""

    status: int
    headers: Mapping[str, str]
    url: str
    where: str
    """The address without its query, for messages."""
    _raw: urllib3.BaseHTTPResponse

    def body(self) -> bytes:
        """All of a short body.

        Raises:
            PublishError: it is longer than `LARGEST_DOCUMENT`.
            BrokenError: the connection broke.
        """
        content = b"".join(self._limited())
        if len(content) > LARGEST_DOCUMENT:
            raise PublishError(f"the answer is longer than {LARGEST_DOCUMENT >> 20} MiB", where=self.where)
        return content

    def told(self) -> str:
        """The registry's words about what went wrong; may be empty."""
        try:
            return registry_words(self.body())
        except PublishError:
            return ""

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes, however long.

        Raises:
            BrokenError: the connection broke.
        """
        try:
            yield from self._raw.stream(BLOCK, decode_content=False)
        except (HTTPError, OSError) as exc:
            raise failure(exc, self.where) from exc

    def _limited(self) -> Iterator[bytes]:
        size = 0
        for piece in self.pieces():
            size += len(piece)
            yield piece
            if size > LARGEST_DOCUMENT:
                return


class Connection:
    """Requests to one registry, from one thread.

    Args:
        host: ``name[:port]``, as the user wrote it.
        patience: its time-out is that of each connection, and of each wait for a byte.
    """

    def __init__(self, host: str, patience: Patience) -> None:
        self.host = DOCKER_HUB_API if host in {DOCKER_HUB, f"index.{DOCKER_HUB}"} else host
        self._patience = patience
        self._identity = Identity(self.host, self._fetch)
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._base = ""
        self._agent = f"edgec/{version('edgec')}"

    @contextmanager
    def ask(
        self,
        method: str,
        address: str,
        *,
        expect: frozenset[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | Sendable | None = None,
    ) -> Iterator[Answer]:
        """Ask the registry something, and again as whom it wants us to be when it asks for that.

        Args:
            method: of HTTP.
            address: path, or what a ``Location`` header said.
            expect: statuses that the caller understands; all others are errors.
            headers: beyond those that say who we are.
            body: what is sent.

        Raises:
            BrokenError: no answer, a broken connection, or a busy server.
            CredentialsError: credentials are missing or refused.
            PublishError: another answer than expected, or a certificate that nobody vouches for.
        """
        url = self._absolute(address)
        own = dict(headers or {})
        for _ in range(3):  # as nobody; as somebody; and when a token turned out to be too old or for less
            with self._follow(method, url, own, body) as answer:
                if answer.status != 401 or not self._ours(answer.url):
                    self._check(answer, method, expect)
                    yield answer
                    return
                self._identity.answer(answer.headers, answer.where)
        raise self._identity.refused(f"{self.host}{urlsplit(url).path}")

    def _absolute(self, address: str) -> str:
        if not self._base:
            try:
                self._base = f"{scheme_of(self.host, self._patience.timeout)}://{self.host}"
            except OSError as exc:
                raise failure(exc, self.host) from exc
        scheme = urlsplit(self._base).scheme
        if address.startswith(f"http://{self.host}/"):  # behind a proxy that ends TLS, registries say http
            address = scheme + address.removeprefix("http")
        return self._elsewhere(self._base, address, self.host)

    def _ours(self, url: str) -> bool:
        return _origin(url) == _origin(self._base)

    def _check(self, answer: Answer, method: str, expect: frozenset[int]) -> None:
        if answer.status in expect:
            return
        if answer.status in BUSY:
            raise busy(answer.status, answer.told(), answer.where, _seconds(answer.headers.get("Retry-After", "")))
        raise refused(method, answer.status, answer.told(), answer.where)

    @contextmanager
    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Sendable | None
    ) -> Iterator[Answer]:
        """The answer at the end of all redirects; only the registry itself is told who we are."""
        for _ in range(REDIRECTS + 1):
            authorization = self._identity.authorization if self._ours(url) else ""
            told = {**headers, **({"Authorization": authorization} if authorization else {})}
            with self._send(method, url, told, body) as answer:
                target = answer.headers.get("Location", "")
                moved = answer.status in {307, 308} or (answer.status in {301, 302, 303} and method in {"GET", "HEAD"})
                if not moved or not target:
                    yield answer
                    return
                url = self._elsewhere(url, target, answer.where)
        raise PublishError(f"the registry redirects more than {REDIRECTS} times", where=answer.where)

    def _elsewhere(self, url: str, target: str, where: str) -> str:
        try:
            address = web_address(urljoin(url, target))
        except ValueError:
            address = ""
        if not address:
            raise PublishError("the registry sends us to what is no address of the web", where=where)
        if url.startswith("https:") and address.startswith("http:"):
            raise PublishError("the registry sends us from https to http", where=where)
        return address

    @contextmanager
    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Sendable | None
    ) -> Iterator[Answer]:
        parts = urlsplit(url)
        where = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
        given = {
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",  # bytes as they have their digest
            **headers,
        }
        source: bytes | BinaryIO | None
        if body is None or isinstance(body, bytes):
            source = body
        else:
            source = body.open()
            given["Content-Length"] = str(body.size)
        try:
            pool = self._pool(parts.scheme, parts.netloc)
            raw = pool.request(
                method, url, headers=given, body=source, preload_content=False, redirect=False, retries=False
            )
        except (HTTPError, OSError) as exc:
            raise failure(exc, where) from exc
        finally:
            if source is not None and not isinstance(source, bytes):
                source.close()
        try:
            yield Answer(raw.status, raw.headers, url, where, raw)
        except BaseException:
            raw.close()
            raise
        _finish(raw)

    def _pool(self, scheme: str, netloc: str) -> urllib3.PoolManager:
        key = f"{scheme}://{netloc}"
        if key in self._pools:
            return self._pools[key]
        timeout = urllib3.Timeout(connect=self._patience.timeout, read=self._patience.timeout)
        context: ssl.SSLContext | None = tls_context(netloc) if scheme == "https" else None
        proxy = getproxies().get(scheme, "")
        if proxy and not is_loopback(netloc) and not proxy_bypass(netloc):
            address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            if address.scheme not in {"http", "https"}:
                raise PublishError(f"a proxy of this kind is not supported: {address.scheme}", where=netloc)
            userinfo = address.netloc.rpartition("@")[0]
            pool: urllib3.PoolManager = urllib3.ProxyManager(
                f"{address.scheme}://{address.netloc.rpartition('@')[2]}",
                proxy_headers=urllib3.make_headers(proxy_basic_auth=userinfo) if userinfo else None,
                timeout=timeout, ssl_context=context, blocksize=BLOCK,
            )  # fmt: skip
        else:
            pool = urllib3.PoolManager(timeout=timeout, ssl_context=context, blocksize=BLOCK)
        self._pools[key] = pool
        return pool

    def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        """For `Identity`: status and body of a request to whoever gives tokens."""
        if urlsplit(url).scheme != "https" and not self._base.startswith("http:"):
            raise PublishError("the registry wants its credentials sent in plain http", where=urlsplit(url).netloc)
        with self._send(method, url, headers, body) as answer:
            if answer.status in BUSY:
                raise busy(answer.status, answer.told(), answer.where, _seconds(answer.headers.get("Retry-After", "")))
            return answer.status, answer.body()


def _origin(url: str) -> tuple[str, str, int]:
    """Who is spoken to (RFC 6454): others are not told who we are."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _finish(raw: urllib3.BaseHTTPResponse) -> None:
    """Make the connection free for the next request, when little or nothing is left of this answer."""
    with contextlib.suppress(HTTPError, OSError):
        raw.read(BLOCK, decode_content=False)
    raw.close()


def _seconds(text: str) -> float:
    """What a ``Retry-After`` header says (RFC 9110, 10.2.3): seconds, or a date."""
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
