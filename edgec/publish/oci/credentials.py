"""Credentials for a registry, from the environment or docker's configuration; they are never printed."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.errors import CredentialsError

USER = "EDGEC_REGISTRY_USER"
PASSWORD = "EDGEC_REGISTRY_PASSWORD"
DOCKER_HUB = "docker.io"
"""The usual name of `DOCKER_HUB_API`, whose credentials docker keeps under `DOCKER_HUB_KEY`."""
DOCKER_HUB_API = "registry-1.docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
HELPER_SECONDS = 60.0
"""Time limit of a credential helper: some wait until the user unlocks a key ring."""

_HELPER = re.compile(r"[A-Za-z0-9._-]+\Z")
_IDENTITY_TOKEN_USER = "<token>"
"""User name with which a credential helper marks its secret as an identity token."""


@dataclass(frozen=True)
class Credentials:
    """A user's credentials for one registry; neither ``repr`` nor ``str`` shows them."""

    source: str
    """Where they are from, for messages."""
    user: str = field(repr=False, default="")
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")
    """An OAuth2 refresh token, which some registries return at log-in to be stored instead of the password."""

    def basic(self) -> str:
        """The value of an ``Authorization`` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def credentials_for(host: str) -> Credentials | None:
    """The credentials for a registry; None: requests are anonymous.

    The environment comes first; then docker's ``config.json``, as ``docker login`` writes it: ``credHelpers``, then
    ``credsStore`` (docker-credential-helpers' protocol), then ``auths``.

    Args:
        host: ``name[:port]``.

    Raises:
        CredentialsError: only the user or only the password is set, or docker's configuration or helper is broken.
    """
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if user and password:
        return Credentials(source=f"{USER} and {PASSWORD}", user=user, password=password)
    if user or password:
        raise CredentialsError(
            f"{USER if user else PASSWORD} is set, {PASSWORD if user else USER} is not",
            where=host,
            hint="set both; or unset both to use docker's credentials",
        )
    return _from_docker(host)


def docker_folder() -> Path:
    """The folder of docker's configuration."""
    given = os.environ.get("DOCKER_CONFIG")
    return Path(given) if given else Path.home() / ".docker"


def _from_docker(host: str) -> Credentials | None:
    file = docker_folder() / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not JSON"
        raise CredentialsError(
            f"docker's configuration cannot be read: {why}", where=str(file), hint="correct it, or run: docker login"
        ) from None  # a decoder's error holds the text
    keys = [DOCKER_HUB_KEY, DOCKER_HUB] if host in {DOCKER_HUB, DOCKER_HUB_API} else [host]
    helpers, store = _table(config, "credHelpers"), config.get("credsStore") if isinstance(config, dict) else None
    for key in keys:
        helper = helpers.get(key) or store
        if helper and (credentials := _from_helper(str(helper), key)):
            return credentials
    for name, entry in _table(config, "auths").items():
        if (name in keys or _host_of(name) in keys) and isinstance(entry, dict):
            credentials = _from_entry(entry, str(file))
            if credentials:
                return credentials
    return None


def _table(config: Any, key: str) -> dict[str, Any]:
    table = config.get(key) if isinstance(config, dict) else None
    return table if isinstance(table, dict) else {}


def _host_of(key: str) -> str:
    """Docker's keys may be URLs: ``https://host/v1/`` is ``host``."""
    return key.removeprefix("https://").removeprefix("http://").split("/", 1)[0]


def _from_entry(entry: dict[str, Any], source: str) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(source=source, identity_token=token)
    packed = entry.get("auth")
    if not isinstance(packed, str) or not packed:
        plain = {key: entry.get(key) for key in ("username", "password")}
        if all(isinstance(text, str) and text for text in plain.values()):
            return Credentials(source=source, user=str(plain["username"]), password=str(plain["password"]))
        return None
    try:
        user, colon, password = base64.b64decode(packed, validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise CredentialsError(
            'an "auth" entry is not base64 of USER:PASSWORD', where=source, hint="log in again with: docker login"
        ) from None
    return Credentials(source=source, user=user, password=password)


def _from_helper(name: str, key: str) -> Credentials | None:
    program = f"docker-credential-{name}"
    hint = f"check it with: echo {key} | {program} get"
    if not _HELPER.match(name):
        raise CredentialsError("docker's configuration has an invalid name of a credential helper", where=name)
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise CredentialsError(
            "the credential helper of docker's configuration is not installed",
            where=program,
            hint=f"install it, or set {USER} and {PASSWORD}",
        ) from None
    except (OSError, subprocess.TimeoutExpired) as exc:
        what = "timed out" if isinstance(exc, subprocess.TimeoutExpired) else "cannot be run"
        raise CredentialsError(f"the credential helper {what}", where=program, hint=hint) from None
    if done.returncode:
        if "credentials not found" in (done.stdout + done.stderr).lower():
            return None
        raise CredentialsError(f"the credential helper failed (exit {done.returncode})", where=program, hint=hint)
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsError("the credential helper returned invalid output", where=program, hint=hint) from None
    if user == _IDENTITY_TOKEN_USER:
        return Credentials(source=program, identity_token=secret)
    return Credentials(source=program, user=user, password=secret)
