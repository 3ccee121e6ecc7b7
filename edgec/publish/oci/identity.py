"""What a registry wants to know about us, and how it is told: HTTP basic, or a bearer token from its token service.

The flow is that of the Docker Registry v2 authentication specification ("Token Authentication Specification" and
"OAuth2 Token Authentication"), which all registries of the OCI distribution-spec share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit

from edgec.errors import CredentialsError, PublishError
from edgec.publish.oci.credentials import PASSWORD, USER, Credentials, credentials_for

Fetch = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, bytes]]
"""Method, address, headers, body -> status, content."""

_SCHEME = re.compile(r"(?:^|,)\s*(Basic|Bearer)\b\s*", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Identity:
    """Who we are to one registry: nobody, until it asks.

    Args:
        host: ``name[:port]``.
        fetch: asks the token service.
    """

    def __init__(self, host: str, fetch: Fetch) -> None:
        self.authorization = ""
        """Value of the ``Authorization`` header that the registry asked for last; empty: none."""
        self._host = host
        self._fetch = fetch
        self._given: Credentials | None = None
        self._looked = False

    def answer(self, headers: Mapping[str, str], where: str) -> None:
        """Do what a 401 asks for, so that the same request may succeed.

        Args:
            headers: of that answer.
            where: for messages.

        Raises:
            CredentialsError: there is nothing to do it with, or it was done already.
            PublishError, BrokenError: the token service does not answer, or not as the specification says.
        """
        challenges = parse_challenges(headers.get("WWW-Authenticate", ""))
        if "bearer" in challenges:
            self.authorization = f"Bearer {self._token(challenges['bearer'], where)}"
            return
        if "basic" not in challenges:
            raise PublishError("the registry asks for a kind of log-in that edgec does not have", where=where)
        given = self._credentials()
        if given is None:
            raise self.missing(where)
        if given.identity_token or self.authorization.startswith("Basic "):
            raise self.refused(where)
        self.authorization = given.basic()

    def missing(self, where: str) -> CredentialsError:
        """Nobody told edgec who it is."""
        return CredentialsError(
            "the registry asks for credentials, and none are set for it",
            where=where,
            hint=f"docker login {self._host}, or set {USER} and {PASSWORD}",
        )

    def refused(self, where: str) -> CredentialsError:
        """The credentials are wrong, or not enough."""
        given = self._credentials()
        if given is None:
            return self.missing(where)
        return CredentialsError(
            f"the registry refuses the credentials from {given.source}",
            where=where,
            hint=f"log in again: docker login {self._host}, or correct {USER} and {PASSWORD}",
        )

    def _credentials(self) -> Credentials | None:
        if not self._looked:
            self._given = credentials_for(self._host)
            self._looked = True
        return self._given

    def _token(self, challenge: Mapping[str, str], where: str) -> str:
        realm = web_address(challenge.get("realm", ""))
        parts = urlsplit(realm)
        if not realm:
            raise PublishError("the registry does not say where its tokens are from", where=where)
        given = self._credentials()
        query = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        if given and given.identity_token:
            form = {**query, "grant_type": "refresh_token", "client_id": "edgec", "refresh_token": given.identity_token}
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            status, content = self._fetch("POST", realm, headers, urlencode(form).encode())
        else:
            address = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}" if query else realm
            status, content = self._fetch("GET", address, {"Authorization": given.basic()} if given else {}, None)
        service = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
        if status in {400, 401, 403}:
            raise self.refused(service)
        try:
            answer = json.loads(content) if status == 200 else None
            token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
        except (ValueError, RecursionError):
            token = None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise PublishError(f"the registry's token service gives no token (status {status})", where=service)
        return token


def web_address(text: str) -> str:
    """An absolute address of http or https, without a password in it; empty when `text` is none."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if good else ""


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Scheme (lower case) -> parameters of each challenge that edgec can answer in a ``WWW-Authenticate`` header.

    RFC 9110, 11.6.1; several headers of this name, joined by commas, are one.
    """
    quoted = [match.span() for match in re.finditer(r'"(?:[^"\\]|\\.)*"', header)]
    starts = [found for found in _SCHEME.finditer(header) if not any(a < found.start() < b for a, b in quoted)]
    found: dict[str, dict[str, str]] = {}
    ends = [start.start() for start in starts[1:]] + [len(header)]
    for start, end in zip(starts, ends, strict=False):
        parameters = _PARAMETER.findall(header[start.end() : end])
        found.setdefault(
            start[1].lower(), {key.lower(): re.sub(r"\\(.)", r"\1", text) or bare for key, text, bare in parameters}
        )
    return found
