"""One repository of an OCI registry: its manifests and blobs by digest, its tags (OCI distribution-spec 1.1)."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode, urlsplit

from edgec.bundle.files import BundleFile
from edgec.errors import BundleError, PublishError, StorageError
from edgec.publish.oci.connection import Answer, Connection
from edgec.publish.oci.failures import refused, registry_codes, registry_words
from edgec.publish.oci.records import DOCKER_TYPES, INDEX_TYPE, MANIFEST_TYPE, TITLE, Descriptor, digest_of
from edgec.publish.store import Body
from edgec.publish.transfer import REPORT_EVERY, BrokenError, mebibytes
from edgec.workers.worker import Progress

ACCEPT = ", ".join((INDEX_TYPE, MANIFEST_TYPE, *DOCKER_TYPES))
"""Others than ours too, so as to tell what they are."""
_DIGEST = "Docker-Content-Digest"
_MEND = "the registry is damaged or was tampered with, and keeps what it has: delete it there first, then publish again"
_NOT_YET_KNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
"""Also what docker-registry 2.8 says while somebody else sends the same file to the same repository: its links are
written in place, and are empty for a moment."""


@dataclass(frozen=True)
class Document:
    """A manifest or index as it is in the registry."""

    content: bytes
    media_type: str
    digest: str


class Repository:
    """What edgec does with a repository. Each request is tried once: `edgec.publish.transfer.persist` tries again."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def __str__(self) -> str:
        return f"{self._connection.host}/{self._name}"

    def document(self, reference: str) -> Document | None:
        """The manifest or index of a tag or digest; None: there is none.

        Raises:
            PublishError: what came does not have the digest that was asked for, or that the registry says it has.
            BrokenError, CredentialsError: as `Connection.ask`.
        """
        path = f"/v2/{self._name}/manifests/{reference}"
        with self._connection.ask("GET", path, expect=frozenset({200, 404}), headers={"Accept": ACCEPT}) as answer:
            content = answer.body()
            if answer.status == 404:
                return None
            digest = digest_of(content)
            said = {answer.headers.get(_DIGEST, digest)} | ({reference} if ":" in reference else set())
            if said != {digest}:
                raise PublishError(
                    f"what the registry gives has the digest {digest}, not {', '.join(sorted(said - {digest}))}",
                    where=answer.where,
                    hint=_MEND,
                )
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            return Document(content, media_type, digest)

    def put_document(self, reference: str, content: bytes, media_type: str) -> bool:
        """Store a manifest or index under a tag or its digest; whether the registry keeps lists of referrers.

        Raises:
            PublishError: the registry says that it stored something else.
            BrokenError, CredentialsError: as `Connection.ask`.
        """
        path = f"/v2/{self._name}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        with self._connection.ask("PUT", path, expect=frozenset({201, 400}), headers=headers, body=content) as answer:
            if answer.status == 400:
                told = answer.body()
                if registry_codes(told) & _NOT_YET_KNOWN:
                    raise BrokenError(
                        "the registry does not know a file or manifest that was sent to it",
                        where=answer.where,
                        hint="publish again: it may have been deleted there meanwhile",
                    )
                raise refused("PUT", answer.status, registry_words(told), answer.where)
            digest = digest_of(content)
            said = answer.headers.get(_DIGEST, digest)
            if said != digest:
                raise PublishError(f"the registry stored {said}, not {digest}", where=answer.where)
            return "OCI-Subject" in answer.headers

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether a blob is there.

        Raises:
            PublishError: it has another size.
            BrokenError, CredentialsError: as `Connection.ask`.
        """
        path = f"/v2/{self._name}/blobs/{blob.digest}"
        with self._connection.ask("HEAD", path, expect=frozenset({200, 404})) as answer:
            if answer.status == 404:
                return False
            size = answer.headers.get("Content-Length", "")
            if size and size != str(blob.size):
                raise PublishError(
                    f"the registry has this content damaged: {size[:20]} bytes, not {blob.size}",
                    where=answer.where,
                    hint=_MEND,
                )
            return True

    def put_content(self, digest: str, content: bytes) -> None:
        """Store a short blob."""
        self._upload(digest, content)

    def put_file(self, path: Path, file: BundleFile, progress: Progress) -> None:
        """Store a file as a blob, in a new upload: one POST, one PUT that streams it from disk.

        Not in chunks (PATCH): registries differ in the sizes they take, some take none; a file of an edge bundle that
        broke is sent again.

        Raises:
            BundleError: it is not, or no longer, the file that was digested.
            BrokenError, CredentialsError, PublishError: as `Connection.ask`.
        """
        self._upload(f"sha256:{file.sha256}", _FileBody(path, file, progress))

    def _upload(self, digest: str, body: bytes | _FileBody) -> None:
        with self._connection.ask("POST", f"/v2/{self._name}/blobs/uploads/", expect=frozenset({202})) as answer:
            location = answer.headers.get("Location", "")
            if not location:
                raise PublishError("the registry does not say where to upload", where=answer.where)
        address = f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream"}
        # 404: the registry forgot the upload, as several behind one name do; a new one may succeed
        with self._connection.ask("PUT", address, expect=frozenset({201, 404}), headers=headers, body=body) as answer:
            if answer.status == 404:
                raise BrokenError("the registry does not know the upload any more", where=str(self))
            said = answer.headers.get(_DIGEST, digest)
            if said != digest:
                raise PublishError(f"the registry stored {said}, not {digest}", where=answer.where)

    @contextmanager
    def open_blob(self, blob: Descriptor, start: int) -> Iterator[Body]:
        """The bytes of a blob from `start` on; from 0 where the registry cannot begin anywhere else.

        Raises:
            PublishError: it is not there.
            BrokenError, CredentialsError: as `Connection.ask`.
        """
        if start and start == blob.size:
            yield Body(start, iter(()), mend=_MEND)
            return
        path = f"/v2/{self._name}/blobs/{blob.digest}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._connection.ask("GET", path, expect=frozenset({200, 206, 404, 416}), headers=headers) as answer:
            if answer.status in {404, 416}:
                lacking = blob.note(TITLE) if answer.status == 404 else f"a part of {blob.note(TITLE)}"
                raise PublishError(
                    f"the registry lacks {lacking}, which its manifest says is there",
                    where=answer.where,
                    hint="publish again there; if that does not help, its disk is damaged",
                )
            yield Body(_begin(answer, start), answer.pieces(), mend=_MEND)


def _begin(answer: Answer, start: int) -> int:
    if answer.status == 200:
        return 0
    begun = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if begun != str(start):
        raise PublishError(f"the registry gives other bytes than those from {start} on", where=answer.where)
    return start


@dataclass(frozen=True)
class _FileBody:
    """A file of a bundle as the body of a request."""

    path: Path
    file: BundleFile
    progress: Progress

    @property
    def size(self) -> int:
        return self.file.size

    def open(self) -> BinaryIO:
        try:
            return _Checked(self.path, self.file, self.progress)
        except OSError as exc:
            raise BundleError(f"cannot be read: {(exc.strerror or str(exc)).lower()}", where=str(self.path)) from exc


class _Checked(io.FileIO):
    """A file that is read once, from beginning to end, and must turn out to be what was digested."""

    def __init__(self, path: Path, file: BundleFile, progress: Progress) -> None:
        super().__init__(path, "rb")
        self._path, self._file, self._progress = path, file, progress
        self._hash = hashlib.sha256()
        self._passed = 0
        self._told = time.monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._file.size - self._passed
        try:
            piece = super().read(left if size is None or size < 0 else min(size, left)) or b""
        except OSError as exc:
            raise StorageError("cannot be read", where=str(self._path)) from exc
        self._hash.update(piece)
        self._passed += len(piece)
        if self._passed < self._file.size:
            if not piece:
                raise self._changed()
        elif piece and self._hash.hexdigest() != self._file.sha256:
            raise self._changed()
        if time.monotonic() - self._told >= REPORT_EVERY:
            self._told = time.monotonic()
            self._progress(f"{self._file.name}: {mebibytes(self._passed)} of {mebibytes(self._file.size)} sent")
        return piece

    def _changed(self) -> BundleError:
        return BundleError(
            "the file changed while it was sent", where=str(self._path), hint="publish again when nothing writes there"
        )
