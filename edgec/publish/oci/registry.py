"""One repository of an OCI registry: manifests and blobs by digest, and tags (OCI distribution-spec 1.1)."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from edgec.bundle.files import BundleFile
from edgec.errors import BundleError, PublishError, StorageError
from edgec.publish.oci.connection import BLOCK, Connection, Response
from edgec.publish.oci.failures import error_codes, error_message, refusal
from edgec.publish.oci.records import DOCKER_TYPES, INDEX_TYPE, MANIFEST_TYPE, TITLE, Descriptor, Document, digest_of
from edgec.publish.store import ByteStream
from edgec.publish.transfer import REPORT_EVERY, TransientError, mebibytes, open_file
from edgec.workers.worker import Progress

ACCEPT = ", ".join((INDEX_TYPE, MANIFEST_TYPE, *DOCKER_TYPES))
"""Docker's types too, so that messages can name what a tag refers to."""
MAX_TAG_PAGES = 1000
"""Pages of a list of tags that are read."""
_DIGEST = "Docker-Content-Digest"
_CORRUPT = "the content of the registry is corrupt: delete it there, then publish again"
_NOT_YET_KNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
"""docker-registry 2.8 returns these also while another client sends the same file to the same repository: it writes
its links in place, and they are empty for a moment."""
_NEXT_PAGE = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
"""A ``Link`` header (RFC 8288)."""


class Repository:
    """Operations on a repository. Each sends its requests once: `edgec.publish.transfer.retry` repeats them."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def __str__(self) -> str:
        return f"{self._connection.host}/{self._name}"

    def tags(self) -> tuple[str, ...]:
        """All tags (distribution-spec 1.1, "Listing Tags"); none where the repository does not exist.

        Raises:
            PublishError: the registry's list is invalid.
            TransientError, CredentialsError: as `Connection.request`.
        """
        names: list[str] = []
        url = f"/v2/{self._name}/tags/list?n=1000"
        for _ in range(MAX_TAG_PAGES):
            with self._connection.request("GET", url, expect=frozenset({200, 404})) as response:
                if response.status == 404:
                    break
                names += _tag_names(response)
                link = _NEXT_PAGE.search(response.headers.get("Link", ""))
                if link is None:
                    break
                url = urljoin(response.url, link[1])
        return tuple(names)

    def document(self, reference: str) -> Document | None:
        """The manifest or index of a tag or digest; None where there is none.

        Raises:
            PublishError: its digest is not the one requested, or not the one that the registry states.
            TransientError, CredentialsError: as `Connection.request`.
        """
        path = f"/v2/{self._name}/manifests/{reference}"
        with self._connection.request(
            "GET", path, expect=frozenset({200, 404}), headers={"Accept": ACCEPT}
        ) as response:
            content = response.body()
            if response.status == 404:
                return None
            digest = digest_of(content)
            stated = {response.headers.get(_DIGEST, digest)} | ({reference} if ":" in reference else set())
            if stated != {digest}:
                wrong = ", ".join(sorted(stated - {digest}))
                what = f"the registry returned content that has the digest {digest}, not {wrong}"
                raise PublishError(what, where=response.where, hint=_CORRUPT)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return Document(content, media_type, digest)

    def put_document(self, reference: str, content: bytes, media_type: str) -> bool:
        """Store a manifest or index.

        Args:
            reference: a tag, or the digest of `content`.
            content: canonical JSON.
            media_type: of `content`.

        Returns:
            Whether the registry has the referrers API.

        Raises:
            PublishError: the registry stored something else.
            TransientError, CredentialsError: as `Connection.request`.
        """
        path = f"/v2/{self._name}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        statuses = frozenset({201, 400})
        with self._connection.request("PUT", path, expect=statuses, headers=headers, body=content) as response:
            if response.status == 400:
                error = response.body()
                if error_codes(error) & _NOT_YET_KNOWN:
                    raise TransientError(
                        "the registry does not have a file or manifest that was sent to it",
                        where=response.where,
                        hint="publish again: it may have been deleted there in the meantime",
                    )
                raise refusal("PUT", response.status, error_message(error), response.where)
            _check_stored(response, digest_of(content))
            return "OCI-Subject" in response.headers

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the registry has a blob.

        Raises:
            PublishError: it has another size.
            TransientError, CredentialsError: as `Connection.request`.
        """
        path = f"/v2/{self._name}/blobs/{blob.digest}"
        with self._connection.request("HEAD", path, expect=frozenset({200, 404})) as response:
            if response.status == 404:
                return False
            size = response.headers.get("Content-Length", "")
            if size and size != str(blob.size):
                raise PublishError(
                    f"the blob in the registry is damaged: {size[:20]} bytes, not {blob.size}",
                    where=response.where,
                    hint=_CORRUPT,
                )
            return True

    def put_blob(self, digest: str, size: int, body: bytes | Iterable[bytes]) -> None:
        """Store a blob in a new upload: one POST, and one PUT that streams it.

        Not in chunks (PATCH): registries differ in the sizes that they accept, and some accept none.

        Args:
            digest: ``sha256:<hex>``.
            size: bytes of `body`.
            body: the content, e.g. a `FileBody`.

        Raises:
            BundleError: the file of a `FileBody` changed.
            TransientError, CredentialsError, PublishError: as `Connection.request`.
        """
        with self._connection.request("POST", f"/v2/{self._name}/blobs/uploads/", expect=frozenset({202})) as response:
            location = response.headers.get("Location", "")
            if not location:
                raise PublishError("the registry returned no upload URL", where=response.where)
        url = f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        # 404: the registry lost the upload, as replicas behind one name do; a new one may succeed
        with self._connection.request("PUT", url, expect=frozenset({201, 404}), headers=headers, body=body) as response:
            if response.status == 404:
                raise TransientError("the registry lost the upload", where=str(self))
            _check_stored(response, digest)

    @contextmanager
    def open_blob(self, blob: Descriptor, start: int) -> Iterator[ByteStream]:
        """The bytes of a blob.

        Args:
            blob: its digest, its size and, for messages, its title.
            start: first byte that is wanted; the stream starts at 0 where the registry ignores it.

        Raises:
            PublishError: the registry does not have it.
            TransientError, CredentialsError: as `Connection.request`.
        """
        if start and start == blob.size:
            yield ByteStream(start, iter(()), hint=_CORRUPT)
            return
        path = f"/v2/{self._name}/blobs/{blob.digest}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        statuses = frozenset({200, 206, 404, 416})
        with self._connection.request("GET", path, expect=statuses, headers=headers) as response:
            if response.status in {404, 416}:
                missing = blob.annotation(TITLE) if response.status == 404 else f"a part of {blob.annotation(TITLE)}"
                raise PublishError(
                    f"the registry does not have {missing}, which the bundle's manifest names",
                    where=response.where,
                    hint="publish again there; if that does not help, its storage is damaged",
                )
            yield ByteStream(_first_byte(response, start), response.pieces(), hint=_CORRUPT)


def _tag_names(response: Response) -> list[str]:
    try:
        names = json.loads(response.body())["tags"] or []  # null where there are none
    except (ValueError, KeyError, TypeError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PublishError("the registry returned an invalid list of tags", where=response.where)
    return names


def _check_stored(response: Response, digest: str) -> None:
    stated = response.headers.get(_DIGEST, digest)
    if stated != digest:
        raise PublishError(f"the registry stored {stated}, not {digest}", where=response.where)


def _first_byte(response: Response, start: int) -> int:
    if response.status == 200:
        return 0
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if first != str(start):
        raise PublishError(f"the registry returned other bytes than those from {start} on", where=response.where)
    return start


@dataclass(frozen=True)
class FileBody:
    """A file of a bundle as the body of a request; each iteration reads it from the beginning and checks its digest.

    Raises:
        BundleError: the file changed; its last bytes are not sent, so that the registry does not store it.
        StorageError: it cannot be read.
    """

    path: Path
    file: BundleFile
    progress: Progress

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        left, reported = self.file.size, time.monotonic()
        with open_file(self.path) as stream:
            while left:
                try:
                    piece = stream.read(min(BLOCK, left))
                except OSError as exc:
                    raise StorageError("cannot be read", where=str(self.path)) from exc
                digest.update(piece)
                left -= len(piece)
                if not piece or (not left and digest.hexdigest() != self.file.sha256):
                    hint = "publish again when no other program writes to it"
                    raise BundleError("the file changed while it was sent", where=str(self.path), hint=hint)
                if time.monotonic() - reported >= REPORT_EVERY:
                    reported = time.monotonic()
                    done = f"{mebibytes(self.file.size - left)} of {mebibytes(self.file.size)}"
                    self.progress(f"{self.file.name}: {done} sent")
                yield piece
