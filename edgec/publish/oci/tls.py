"""The scheme of a registry's URL, http or https, and the certificate authorities that its certificate may be from."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from edgec.errors import PublishError
from edgec.publish.oci.credentials import docker_folder

INSECURE = "EDGEC_REGISTRY_INSECURE"
"""Hosts, separated by commas, that plain http is used for although they are other machines."""
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Environment variables with a file of certificate authorities that replace the system's."""
SYSTEM_CAS = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/ssl/cert.pem"),  # Alpine
)
"""Files with the certificate authorities of the system's administrator; the list of Go's crypto/x509."""


def is_loopback(host: str) -> bool:
    """Whether `host` (``name[:port]``) is this machine, so that no other can read the traffic."""
    name = split_host(host)[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_host(host: str) -> tuple[str, int | None]:
    """Name and port of ``name[:port]``, where the name may be an IPv6 address in brackets."""
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port


def scheme_of(host: str, timeout: float) -> str:
    """``https``; or ``http`` for the hosts of `INSECURE`, and for this machine where no TLS is served.

    Args:
        host: ``name[:port]``.
        timeout: seconds to wait for an answer of this machine.

    Raises:
        OSError: the port of this machine does not answer.
    """
    if host in {item.strip() for item in os.environ.get(INSECURE, "").split(",")}:
        return "http"
    return "https" if not is_loopback(host) or _serves_tls(host, timeout) else "http"


def _serves_tls(host: str, timeout: float) -> bool:
    name, port = split_host(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent here; requests verify the certificate
    with socket.create_connection((name, port or 443), timeout=timeout) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name):
                return True
        except (ssl.SSLError, ConnectionError):  # some servers close the connection on what is not HTTP
            return False


def tls_context(host: str) -> ssl.SSLContext:
    """TLS settings that trust the file of `CA_VARIABLES` or else the system's authorities, and docker's for `host`.

    Args:
        host: ``name[:port]``; docker keeps its authorities in ``certs.d/<host>/ca.crt``.

    Raises:
        PublishError: one of these files is missing or has no certificates.
    """
    for variable in CA_VARIABLES:
        if given := os.environ.get(variable):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load(context, Path(given), variable)
            break
    else:
        context = ssl.create_default_context()
        for file in SYSTEM_CAS:
            if file.is_file():
                context.load_verify_locations(file)
    for folder in (docker_folder(), Path.home() / ".config/docker", Path("/etc/docker")):
        own = folder / "certs.d" / host / "ca.crt"
        if own.is_file():
            _load(context, own, "docker's certs.d")
    return context


def _load(context: ssl.SSLContext, file: Path, named_by: str) -> None:
    hint = "it must be a PEM file of certificate authorities"
    try:
        if file.is_dir():
            context.load_verify_locations(capath=file)
        else:
            context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise PublishError(f"{named_by} names a file without certificates", where=str(file), hint=hint) from None
    except OSError as exc:
        why = (exc.strerror or "no such file").lower()
        raise PublishError(f"{named_by} names a file that cannot be read: {why}", where=str(file), hint=hint) from exc
