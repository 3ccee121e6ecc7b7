"""Locations of published bundles: a folder, an OCI registry or an S3 bucket, parsed from what the user writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from edgec.errors import UsageError
from edgec.toml_source import suggest

SCHEMES = ("file", "oci", "s3")
FORMS = "DIR, file:///DIR, oci://HOST[:PORT]/REPOSITORY[:TAG], s3://BUCKET/PREFIX"
DEFAULT_TAG = "latest"
MAX_TAG = 128
"""Characters of a tag."""
MAX_PORT = 65535

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
"""OCI Distribution Specification 1.1, "Pulling manifests"."""
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
"""OCI Distribution Specification 1.1, "Pulling manifests"."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
"""Amazon S3 User Guide, "General purpose bucket naming rules"."""
_DOCKER_CONFIG = "credentials come from `docker login` or the environment, see docs/publishing.md"
_AWS_CONFIG = "credentials come from the environment or ~/.aws, see docs/publishing.md"


@dataclass(frozen=True)
class FolderLocation:
    """A folder of this machine."""

    path: Path
    """Absolute."""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class OciLocation:
    """A repository of an OCI registry, and a tag or digest in it."""

    registry: str
    """Host, or host:port."""
    repository: str
    tag: str = DEFAULT_TAG
    digest: str = ""
    """``sha256:<hex>``: this manifest or index, and the tag is ignored; for pulls only."""

    def __str__(self) -> str:
        return f"oci://{self.registry}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


@dataclass(frozen=True)
class S3Location:
    """A bucket of an S3 service, and the prefix of the keys of all objects."""

    bucket: str
    prefix: str
    """Without a slash at either end; may be empty."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


Location = FolderLocation | OciLocation | S3Location


def parse_location(text: str) -> Location:
    """Parse a location, in one of `FORMS`.

    Raises:
        UsageError: an unknown scheme, an invalid part, or credentials, which are not repeated in the message.
    """
    match = _SCHEME.match(text)
    if match is None:
        if not text or "\0" in text:
            raise UsageError("the location is empty", hint=f"locations: {FORMS}")
        return FolderLocation(path=Path(text).absolute())
    scheme, rest = match[1], text[match.end() :]
    if scheme not in SCHEMES:
        hint = suggest(scheme.lower(), SCHEMES) or f"locations: {FORMS}"
        if scheme in {"http", "https", "docker"}:
            hint = "a registry is named oci://HOST/REPOSITORY:TAG, an S3 bucket s3://BUCKET/PREFIX"
        if len(scheme) == 1:
            hint = f"write a folder with such a name as ./{scheme}:/..."
        slashes = "//" if rest.startswith("/") else "/"
        raise UsageError(f'unknown kind of location "{scheme}:{slashes}"', hint=hint)
    if not rest.startswith("/"):
        raise UsageError(f'write two slashes: "{scheme}://"', hint=f"locations: {FORMS}")
    parsers: dict[str, Callable[[str], Location]] = {"file": _folder, "oci": _oci, "s3": _s3}
    return parsers[scheme](rest[1:])


def _folder(rest: str) -> FolderLocation:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise UsageError(
            "a file URL needs an absolute path and no host", where=f"file://{rest}", hint="file:///DIR, or just DIR"
        )
    plain = unquote(path)
    if "\0" in plain:
        raise UsageError("a folder's name must not have a zero byte", where=f"file://{rest}")
    return FolderLocation(path=Path("/" + plain))


def _oci(rest: str) -> OciLocation:
    name, at, digest = rest.rpartition("@")
    if not at:
        name, digest = rest, ""
    if (at and not digest.startswith("sha256:")) or "@" in name:
        raise _credentials("oci", _DOCKER_CONFIG)
    if "?" in name or "#" in name:
        raise UsageError(
            "the location of a registry has no query",
            where="oci://" + re.split("[?#]", name)[0],
            hint=f"locations: {FORMS}",
        )
    registry, _, path = name.partition("/")
    repository, colon, tag = path.partition(":")
    where = f"oci://{rest}"
    host, _, port = registry.rpartition(":")
    if not _HOST.match(registry) or (host and port.isdigit() and int(port) > MAX_PORT):
        raise UsageError(f'"{registry}" is not a host or host:port', where=where, hint=f"locations: {FORMS}")
    if not _REPOSITORY.match(repository):
        hint = (
            "lower-case letters and digits, separated by single . _ / or by -, e.g. oci://registry.local/models/digits"
        )
        raise UsageError(f'"{repository}" is not the name of a repository', where=where, hint=hint)
    if colon and not _TAG.match(tag):
        raise UsageError(f'"{tag}" is not a tag', where=where, hint="up to 128 of letters, digits, _ . -")
    if digest and not _DIGEST.match(digest):
        raise UsageError(f'"{digest}" is not a digest', where=where, hint="sha256: and 64 lower-case hex digits")
    return OciLocation(registry=registry, repository=repository, tag=tag or DEFAULT_TAG, digest=digest)


def _s3(rest: str) -> S3Location:
    if "@" in rest.partition("/")[0]:
        raise _credentials("s3", _AWS_CONFIG)
    if "?" in rest or "#" in rest:
        location = "s3://" + re.split("[?#]", rest)[0]
        raise UsageError("the location of a bucket has no query", where=location, hint=_AWS_CONFIG)
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    where = f"s3://{rest}"
    if not _BUCKET.match(bucket):
        raise UsageError(f'"{bucket}" is not the name of a bucket', where=where, hint="s3://BUCKET/PREFIX")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        raise UsageError(f'"{prefix}" has an empty part, "." or ".."', where=where, hint="s3://BUCKET/PREFIX")
    return S3Location(bucket=bucket, prefix=prefix)


def _credentials(scheme: str, hint: str) -> UsageError:
    return UsageError(f'the location has credentials: write {scheme}:// without "...@"', hint=hint)
