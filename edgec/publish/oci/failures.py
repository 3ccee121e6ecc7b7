"""Errors of connections and registries as edgec's errors.

Messages of libraries are not repeated: they quote URLs whose queries may hold secrets.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator

from urllib3 import exceptions

from edgec.errors import CredentialsError, PublishError
from edgec.publish.transfer import TransientError

BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which another attempt may succeed (RFC 9110; 429: RFC 6585)."""
MAX_MESSAGE = 200
"""Characters of a registry's message that are repeated."""

_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.LocationValueError, "the URL of the registry is invalid"),
    (exceptions.ProxyError, "the connection through the proxy failed"),
    (exceptions.NameResolutionError, "the host name cannot be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    (exceptions.NewConnectionError, "the host cannot be reached"),
    (exceptions.TimeoutError, "the connection timed out"),
    (TimeoutError, "the connection timed out"),
    (ssl.SSLError, "the TLS handshake failed"),
)
"""Exceptions that are looked for in a chain of causes, in this order: NewConnectionError is also a TimeoutError."""


def connection_error(exc: Exception, where: str) -> PublishError:
    """The error for an exception of urllib3 or a socket: a `TransientError` unless another attempt cannot succeed.

    Args:
        exc: with its causes.
        where: host and path, for messages.
    """
    causes = list(_causes(exc))
    host = where.partition("/")[0]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return PublishError(
                f"the registry's certificate cannot be verified: {cause.verify_message}",
                where=host,
                hint=f"for a private certificate authority: copy its certificate to ~/.docker/certs.d/{host}/ca.crt, "
                "or set SSL_CERT_FILE to its file",
            )
        if isinstance(cause, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(cause):
            return PublishError(
                "the registry does not use TLS", where=host, hint=f"to allow plain http: EDGEC_REGISTRY_INSECURE={host}"
            )
    for kind, what in _CAUSES:
        if any(isinstance(cause, kind) for cause in causes):
            return TransientError(what, where=where)
    return TransientError("the connection broke", where=where)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def busy_error(status: int, message: str, where: str, after: float) -> TransientError:
    """The error for a server that is overloaded or has an internal error.

    Args:
        status: HTTP status.
        message: of the registry; may be empty.
        where: host and path.
        after: seconds after which the server asks for another attempt; 0: it does not say.
    """
    return TransientError(f"the registry answers {status}{_quoted(message)}", where=where, after=after)


def refusal(method: str, status: int, message: str, where: str) -> PublishError | CredentialsError:
    """The error for a request that the registry refuses.

    Args:
        method: HTTP method.
        status: HTTP status.
        message: of the registry; may be empty.
        where: host and path.
    """
    if status in {401, 403}:
        access = "read" if method in {"GET", "HEAD"} else "write"
        return CredentialsError(
            f"no {access} permission: the registry answers {status}{_quoted(message)}",
            where=where,
            hint="ask for the permission, or log in as a user who has it: docker login",
        )
    if status == 413:
        return PublishError(
            "the file is larger than the registry allows", where=where, hint="raise the limit of the registry"
        )
    if status == 404:
        return PublishError(f"not found in the registry{_quoted(message)}", where=where)
    return PublishError(f"the registry answers {status} to {method}{_quoted(message)}", where=where)


def error_message(content: bytes) -> str:
    """The message in the body of an error (distribution-spec 1.1, "Error Codes"): one line, cut; may be empty."""
    words = "; ".join(str(item.get("message") or item.get("code", "")) for item in _errors(content))
    return "".join(letter if letter.isprintable() else " " for letter in words)[:MAX_MESSAGE]


def error_codes(content: bytes) -> frozenset[str]:
    """The codes in the body of an error (distribution-spec 1.1, "Error Codes")."""
    return frozenset(str(item.get("code", "")) for item in _errors(content))


def _errors(content: bytes) -> list[dict[str, object]]:
    try:
        errors = json.loads(content)["errors"]
        return [item for item in errors if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _quoted(message: str) -> str:
    return f' ("{message}")' if message else ""
