"""How a registry's host is reached: http or https, and whose certificates are believed."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from pathlib import Path

from edgec.errors import PublishError
from edgec.publish.oci.credentials import docker_folder

INSECURE = "EDGEC_REGISTRY_INSECURE"
"""Hosts, with commas between them, that are spoken to in plain http though they are not this machine."""
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Environment variables with a file of certificate authorities to believe instead of the system's."""
SYSTEM_CAS = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/ssl/cert.pem"),  # Alpine
)
"""Where an administrator's own authorities are, besides the public ones; the list of Go's crypto/x509."""


def is_loopback(host: str) -> bool:
    """Whether `host` (``name[:port]``) is this very machine, so that nobody can listen in."""
    name = split_host(host)[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_host(host: str) -> tuple[str, int | None]:
    """Name and port of ``name[:port]``, where a name may be an IPv6 address in brackets."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit() or (":" in name and not name.endswith("]")):
        return host.strip("[]"), None
    return name.strip("[]"), int(port)


def scheme_of(host: str, seconds: float) -> str:
    """``https``; or ``http`` for the hosts of `INSECURE`, and for this machine when nothing speaks TLS there.

    Args:
        host: ``name[:port]``.
        seconds: how long to wait for an answer of this machine.

    Raises:
        OSError: nobody answers on this machine.
    """
    if host in {item.strip() for item in os.environ.get(INSECURE, "").split(",")}:
        return "http"
    return "https" if not is_loopback(host) or _speaks_tls(host, seconds) else "http"


def _speaks_tls(host: str, seconds: float) -> bool:
    name, port = split_host(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: whose certificate it is, is checked when something is
    with socket.create_connection((name, port or 443), timeout=seconds) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name):
                return True
        except ssl.SSLError:
            return False
        except ConnectionError:
            return False  # some servers hang up on what is no http


def tls_context(host: str) -> ssl.SSLContext:
    """TLS that believes `CA_VARIABLES`' file, or the system's authorities; and docker's ``certs.d/HOST/ca.crt``.

    Raises:
        PublishError: one of these is not there or holds no certificates.
    """
    for variable in CA_VARIABLES:
        if given := os.environ.get(variable):
            context = _believing(Path(given), variable)
            break
    else:
        context = ssl.create_default_context()
        for file in SYSTEM_CAS:
            if file.is_file():
                context.load_verify_locations(file)
    for folder in certificate_folders():
        own = folder / host / "ca.crt"
        if own.is_file():
            _load(context, own, "docker's certs.d")
    return context


def certificate_folders() -> tuple[Path, ...]:
    """Where docker looks for the authorities of single registries: dockerd's, and rootless docker's."""
    return (docker_folder() / "certs.d", Path.home() / ".config/docker/certs.d", Path("/etc/docker/certs.d"))


def _believing(file: Path, variable: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, file, variable)
    return context


def _load(context: ssl.SSLContext, file: Path, named_by: str) -> None:
    hint = "it should be a PEM file of certificate authorities"
    try:
        if file.is_dir():
            context.load_verify_locations(capath=file)
        else:
            context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise PublishError(f"{named_by} names a file without certificates", where=str(file), hint=hint) from None
    except OSError as exc:
        told = (exc.strerror or "it is not there").lower()
        raise PublishError(f"{named_by} names a file that cannot be read: {told}", where=str(file), hint=hint) from exc
