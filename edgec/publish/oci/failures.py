"""What went wrong between edgec and a registry, in our own words.

Libraries' messages are not repeated: they quote addresses whose queries may hold secrets.
"""

from __future__ import annotations

import json
import ssl

from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)

from edgec.errors import CredentialsError, PublishError
from edgec.publish.transfer import BrokenError

BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which another try may succeed (RFC 9110; 429: RFC 6585)."""
LONGEST_TOLD = 200
"""Characters of a registry's own words that are repeated."""


def failure(exc: Exception, where: str) -> PublishError:
    """What an exception of urllib3 or of a socket means: a `BrokenError`, unless trying again is of no use."""
    chain = _chain(exc)
    host = where.partition("/")[0]
    for link in chain:
        if isinstance(link, PublishError):
            return link
        if isinstance(link, ssl.SSLCertVerificationError):
            return PublishError(
                f"the registry's certificate is not to be trusted: {link.verify_message}",
                where=host,
                hint=f"if its certificate authority is your own: put that into ~/.docker/certs.d/{host}/ca.crt, "
                "or name its file in SSL_CERT_FILE",
            )
        if isinstance(link, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(link):
            return PublishError(
                "no TLS is spoken there", where=host, hint=f"if plain http is meant: EDGEC_REGISTRY_INSECURE={host}"
            )
    return BrokenError(_broken(chain), where=where)


def _chain(exc: BaseException) -> list[BaseException]:
    """An exception and everything it holds or came from."""
    found: list[BaseException] = []
    waiting: list[object] = [exc]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and link not in found:
            found.append(link)
            waiting += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
    return found


def _broken(chain: list[BaseException]) -> str:
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (LocationValueError, "the address of the registry cannot be"),
        (ProxyError, "the proxy does not connect us"),
        (NameResolutionError, "the name of the host is not known"),
        (ConnectionRefusedError, "nobody answers there: the connection is refused"),
        ((ReadTimeoutError, ConnectTimeoutError, TimeoutError), "no answer in time"),
        (NewConnectionError, "the host cannot be reached"),
        (ssl.SSLError, "TLS fails"),
    )
    # NewConnectionError is a kind of ConnectTimeoutError: what it came from tells which
    plain = [link for link in chain if not isinstance(link, NewConnectionError)] or chain
    for links in (plain, chain):
        for kind, told in kinds:
            if any(isinstance(link, kind) for link in links):
                return told
    return "the connection broke"


def busy(status: int, told: str, where: str, after: float) -> BrokenError:
    """A server that has a problem of its own, or too much to do."""
    return BrokenError(f"the registry answers {status}{_quoted(told)}", where=where, after=after)


def refused(method: str, status: int, told: str, where: str) -> PublishError | CredentialsError:
    """A registry that will not do what it is asked."""
    if status in {401, 403}:
        doing = "read" if method in {"GET", "HEAD"} else "write"
        return CredentialsError(
            f"you may not {doing} there: the registry answers {status}{_quoted(told)}",
            where=where,
            hint="ask for the right, or log in as somebody who has it: docker login",
        )
    if status == 413:
        return PublishError(
            "the registry takes no file of this size", where=where, hint="ask who runs it to raise that"
        )
    if status == 404:
        return PublishError(f"the registry has no such thing{_quoted(told)}", where=where)
    return PublishError(f"the registry answers {status} to {method}{_quoted(told)}", where=where)


def registry_words(content: bytes) -> str:
    """The message in an answer's body (distribution-spec 1.1, "Error Codes"), cut and on one line; may be empty."""
    words = "; ".join(str(item.get("message") or item.get("code", "")) for item in _errors(content))
    line = "".join(letter if letter.isprintable() else " " for letter in words)
    return line[:LONGEST_TOLD]


def registry_codes(content: bytes) -> frozenset[str]:
    """The error codes in an answer's body (distribution-spec 1.1, "Error Codes")."""
    return frozenset(str(item.get("code", "")) for item in _errors(content))


def _errors(content: bytes) -> list[dict[str, object]]:
    try:
        errors = json.loads(content)["errors"]
        return [item for item in errors if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _quoted(told: str) -> str:
    return f' ("{told}")' if told else ""
