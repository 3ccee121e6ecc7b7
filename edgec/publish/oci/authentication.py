"""Authentication with a registry: HTTP basic, or a bearer token of the registry's token service.

The flow is that of the Docker Registry v2 authentication specification ("Token Authentication Specification" and
"OAuth2 Token Authentication"), which registries of the OCI distribution-spec share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import unquote
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list

from edgec.errors import CredentialsError, PublishError
from edgec.publish.oci.credentials import PASSWORD, USER, Credentials, credentials_for

RequestToken = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, bytes]]
"""Method, URL, headers, body -> status, content."""


class Authenticator:
    """The ``Authorization`` header for one registry; empty until the registry asks for it.

    Args:
        host: ``name[:port]``.
        request_token: sends a request to a token service.
    """

    def __init__(self, host: str, request_token: RequestToken) -> None:
        self.authorization = ""
        """Value of the header that answers the last challenge; empty: anonymous."""
        self._host = host
        self._request_token = request_token
        self._cached: Credentials | None = None
        self._looked_up = False

    def answer_challenge(self, headers: Mapping[str, str], where: str) -> None:
        """Set `authorization` to what a response with status 401 asks for.

        Args:
            headers: of the response.
            where: for messages.

        Raises:
            CredentialsError: there are no credentials, or they were refused already.
            PublishError, TransientError: the token service does not respond as the specification says.
        """
        challenges = parse_challenges(headers.get("WWW-Authenticate", ""))
        if "bearer" in challenges:
            self.authorization = f"Bearer {self._token(challenges['bearer'], where)}"
            return
        if "basic" not in challenges:
            raise PublishError(
                "the registry asks for an authentication scheme that edgec does not support", where=where
            )
        credentials = self._credentials()
        if credentials is None or credentials.identity_token or self.authorization.startswith("Basic "):
            raise self.refused(where)
        self.authorization = credentials.basic()

    def refused(self, where: str) -> CredentialsError:
        """The error for credentials that are missing, wrong or not sufficient."""
        credentials = self._credentials()
        if credentials is None:
            return CredentialsError(
                "the registry asks for credentials, and none are set for it",
                where=where,
                hint=f"docker login {self._host}, or set {USER} and {PASSWORD}",
            )
        return CredentialsError(
            f"the registry refuses the credentials from {credentials.source}",
            where=where,
            hint=f"log in again: docker login {self._host}, or correct {USER} and {PASSWORD}",
        )

    def _credentials(self) -> Credentials | None:
        if not self._looked_up:
            self._cached = credentials_for(self._host)
            self._looked_up = True
        return self._cached

    def _token(self, challenge: Mapping[str, str], where: str) -> str:
        try:
            realm = web_url(challenge.get("realm", ""))
        except ValueError:
            raise PublishError("the registry names an invalid URL as its token service", where=where) from None
        parts = urlsplit(realm)
        credentials = self._credentials()
        query = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        if credentials and credentials.identity_token:
            refresh = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            form = {**query, **refresh, "client_id": "edgec"}
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            status, content = self._request_token("POST", realm, headers, urlencode(form).encode())
        else:
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}" if query else realm
            headers = {"Authorization": credentials.basic()} if credentials else {}
            status, content = self._request_token("GET", url, headers, None)
        service = f"{parts.netloc}{parts.path}"
        if status in {400, 401, 403}:
            raise self.refused(service)
        try:
            answer = json.loads(content) if status == 200 else None
            token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
        except (ValueError, RecursionError):
            token = None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise PublishError(f"the token service returned no valid token (status {status})", where=service)
        return token


def web_url(text: str) -> str:
    """An absolute http or https URL, without user and password.

    Raises:
        ValueError: `text` is not one.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("not an http or https URL")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """The basic and bearer challenges of a ``WWW-Authenticate`` header (RFC 9110, 11.6.1).

    Returns:
        Scheme in lower case -> parameters. Parameters of other schemes are ignored.
    """
    challenges: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    for item in parse_http_list(header):
        scheme, _, rest = item.partition(" ")
        if scheme.lower() in {"basic", "bearer"}:
            parameters = challenges.setdefault(scheme.lower(), {})
            item = rest
        elif "=" not in scheme and not rest.lstrip().startswith("="):  # another scheme
            parameters = {}
        key, equals, value = item.partition("=")
        if equals:
            parameters[key.strip().lower()] = unquote(value.strip())
    return challenges
