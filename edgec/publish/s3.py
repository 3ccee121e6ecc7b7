"""Bundles in an S3 bucket: ``<prefix>/blobs/sha256/<hex>``, and ``<prefix>/index.json``, written last.

A blob that the bucket has with its size and checksum is not sent again. Adding to an index is a conditional write
(If-Match or If-None-Match on PutObject, Amazon S3 User Guide, "Conditional requests"): of two publishers at once the
later one reads the index again. Credentials, region, endpoint and CA are those of boto3's configuration.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from edgec.bundle.files import BundleFile
from edgec.bundle.write import digest_file
from edgec.errors import BundleError, PublishError
from edgec.publish.index import INDEX, MAX_BYTES, Index, entries, parse_index
from edgec.publish.location import S3Location
from edgec.publish.s3_client import CONFLICT, MISSING, code_of, connect, translate_errors
from edgec.publish.store import ByteStream, LocalBundle, NothingPublishedError, PublishResult, RemoteBundle
from edgec.publish.transfer import CHUNK, RetryPolicy, mebibytes, open_file, retry
from edgec.workers.worker import Progress

CONFLICTS = 20
"""Attempts to write an index that other publishers keep changing."""
LARGEST = 5 << 30
"""Bytes that PutObject accepts."""
_PROBE = ".conditional-writes"


class S3Store:
    """A prefix of a bucket."""

    def __init__(self, location: S3Location, policy: RetryPolicy) -> None:
        self._location = location
        self._policy = policy
        self._client = connect(location, policy)

    def publish(self, bundles: Sequence[LocalBundle], *, add: bool, progress: Progress) -> PublishResult:
        """See `edgec.publish.store.Store.publish`."""
        self._retry(
            "read the index", self._index, progress
        )  # reports a missing bucket or permission before anything is sent
        blobs = {file.sha256: (bundle, file) for bundle in bundles for file in bundle.files}
        sent = [file for bundle, file in blobs.values() if self._send(bundle, file, progress)]
        kept = len(blobs) - len(sent)
        if add:
            self._retry("write the index", self._probe, progress)
        changed, index = self._write_index(bundles, add=add, progress=progress)
        return PublishResult(
            reference=str(self._location),
            targets=tuple(sorted(index.bundles)),
            sent=len(sent),
            sent_bytes=sum(file.size for file in sent),
            kept=kept,
            changed=changed or bool(sent),
        )

    def read(self, progress: Progress) -> S3Snapshot:
        """See `edgec.publish.store.Store.read`."""
        index, _ = self._retry("read the index", self._index, progress)
        if index is None:
            raise NothingPublishedError(f"nothing is published there: {INDEX} is missing", where=str(self._location))
        return S3Snapshot(self._client, self._location, index)

    def _retry(self, what: str, action: Any, progress: Progress) -> Any:
        return retry(action, self._policy, progress, what)

    def _index(self) -> tuple[Index | None, str]:
        """The index, or None where it does not exist, and its ETag."""
        key = _key(self._location, INDEX)
        where = f"s3://{self._location.bucket}/{key}"
        with translate_errors(where):
            try:
                answer = self._client.get_object(Bucket=self._location.bucket, Key=key)
            except self._client.exceptions.NoSuchKey:
                return None, ""
            with closing(answer["Body"]) as body:
                text = body.read(MAX_BYTES + 1)
        return parse_index(text, where), answer["ETag"]

    def _send(self, bundle: LocalBundle, file: BundleFile, progress: Progress) -> bool:
        """Send one blob unless the bucket has it; returns whether it was sent."""
        what = f"{bundle.target}: send {file.name} ({mebibytes(file.size)})"
        if file.size > LARGEST:
            raise PublishError(f"the file is larger than S3 accepts ({LARGEST >> 30} GiB)", where=file.name)
        if self._retry(what, lambda: self._has_blob(file), progress):
            return False
        progress(what)
        self._retry(what, lambda: self._put(bundle.path / file.name, file), progress)
        return True

    def _has_blob(self, file: BundleFile) -> bool:
        key = _blob(self._location, file)
        with translate_errors(f"s3://{self._location.bucket}/{key}"):
            try:
                head = self._client.head_object(Bucket=self._location.bucket, Key=key, ChecksumMode="ENABLED")
            except self._client.exceptions.ClientError as exc:
                if code_of(exc) in MISSING:
                    return False
                raise
        if head["ContentLength"] != file.size:
            return False
        if checksum := head.get("ChecksumSHA256"):
            return bool(checksum == _checksum(file))
        return bool(head["Metadata"].get("sha256") == file.sha256)  # a server that stores no checksums

    def _put(self, path: Path, file: BundleFile) -> None:
        key = _blob(self._location, file)
        with translate_errors(f"s3://{self._location.bucket}/{key}"):
            with open_file(path) as stream:
                self._client.put_object(
                    Bucket=self._location.bucket, Key=key, Body=stream, ContentLength=file.size,
                    ChecksumAlgorithm="SHA256", ChecksumSHA256=_checksum(file), Metadata={"sha256": file.sha256},
                )  # fmt: skip
            if path.is_file() and digest_file(path).sha256 == file.sha256:
                return
            self._client.delete_object(Bucket=self._location.bucket, Key=key)  # not every server checks the checksum
        raise BundleError(
            "the file changed while it was sent", where=str(path), hint="build the bundle again, then publish it"
        )

    def _write_index(self, bundles: Sequence[LocalBundle], *, add: bool, progress: Progress) -> tuple[bool, Index]:
        """Make the index name `bundles`; returns whether it changed, and the index."""
        tried = False
        for _ in range(CONFLICTS):
            old, tag = self._retry("read the index", self._index, progress)
            new = Index(bundles={**(old.bundles if add and old else {}), **entries(bundles)})
            if new == old:
                return tried, new
            tried = True
            condition = {} if not add else {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
            progress("write the index")
            if self._retry("write the index", partial(self._put_index, new.to_json().encode(), condition), progress):
                return True, new
            progress("another publisher changed the index: read it again")
            time.sleep(random.uniform(0.05, 0.5))  # so that two publishers do not collide again
        raise PublishError(
            f"other publishers changed the index {CONFLICTS} times in the meantime", where=str(self._location),
            hint="publish again; the files are not sent again",
        )  # fmt: skip

    def _put_index(self, text: bytes, condition: dict[str, str]) -> bool:
        """Write the index; False where `condition` does not hold."""
        key = _key(self._location, INDEX)
        with translate_errors(f"s3://{self._location.bucket}/{key}"):
            try:
                self._client.put_object(
                    Bucket=self._location.bucket, Key=key, Body=text, ContentType="application/json", **condition
                )
            except self._client.exceptions.ClientError as exc:
                if condition and code_of(exc) in CONFLICT | MISSING:
                    return False
                raise
        return True

    def _probe(self) -> None:
        """Refuse a server without conditional writes, on which one publisher could undo the other's changes."""
        key = _key(self._location, _PROBE)
        with translate_errors(f"s3://{self._location.bucket}/{key}"):
            try:
                self._client.put_object(Bucket=self._location.bucket, Key=key, Body=b"", IfMatch='"0"')
            except self._client.exceptions.ClientError as exc:
                if code_of(exc) in CONFLICT | MISSING:
                    return
                if code_of(exc) != "NotImplemented":
                    raise
            else:
                self._client.delete_object(Bucket=self._location.bucket, Key=key)
        raise PublishError(
            "--add: this server has no conditional writes, so publishers could undo each other's changes",
            where=str(self._location), hint="name all bundles in one command, without --add",
        )  # fmt: skip


class S3Snapshot:
    """The content of a prefix as it was when its index was read."""

    def __init__(self, client: Any, location: S3Location, index: Index) -> None:
        self._client = client
        self._location = location
        self._index = index

    @property
    def targets(self) -> tuple[str, ...]:
        """See `edgec.publish.store.Snapshot.targets`."""
        return tuple(sorted(self._index.bundles))

    def bundle(self, target: str) -> RemoteBundle:
        """See `edgec.publish.store.Snapshot.bundle`."""
        entry = self._index.bundles[target]
        return RemoteBundle(target=target, files=entry.files, offer=entry.offer)

    @contextmanager
    def open(self, target: str, file: BundleFile, start: int) -> Iterator[ByteStream]:
        """See `edgec.publish.store.Snapshot.open`."""
        key = _blob(self._location, file)
        where = f"s3://{self._location.bucket}/{key} ({file.name})"
        begin = {"Range": f"bytes={start}-"} if start else {}
        with translate_errors(where):
            answer = self._client.get_object(Bucket=self._location.bucket, Key=key, **begin)
        with closing(answer["Body"]) as body:
            yield ByteStream(start if "ContentRange" in answer else 0, _pieces(body, where))


def _pieces(body: Any, where: str) -> Iterator[bytes]:
    with translate_errors(where):
        yield from body.iter_chunks(CHUNK)


def _key(location: S3Location, name: str) -> str:
    return f"{location.prefix}/{name}" if location.prefix else name


def _blob(location: S3Location, file: BundleFile) -> str:
    return _key(location, f"blobs/sha256/{file.sha256}")


def _checksum(file: BundleFile) -> str:
    return base64.b64encode(bytes.fromhex(file.sha256)).decode()
