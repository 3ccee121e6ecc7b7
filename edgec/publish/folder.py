"""Bundles in a folder: ``<folder>/<target>/`` is an ordinary bundle, ``index.json`` names the published ones.

A bundle is copied to a private folder, flushed, and renamed; the index is written last. A target's folder and the
index cannot change in one step, so the index first names both the old and the new bundle (`Index.replacing`). A publish
that is killed at any moment leaves, for each target, a complete bundle that the index names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from edgec.bundle.files import BundleFile
from edgec.bundle.write import digest_file, is_digested, publish_folder, refuse_foreign, refuse_within
from edgec.errors import PublishError, StorageError, UsageError
from edgec.publish.index import INDEX, MAX_BYTES, Entry, Index, entries, parse_index
from edgec.publish.location import FORMS, FolderLocation
from edgec.publish.store import ByteStream, LocalBundle, NothingPublishedError, PublishResult, RemoteBundle
from edgec.publish.transfer import (
    RetryPolicy,
    TransientError,
    copy_checked,
    matches_files,
    mebibytes,
    open_file,
    read_pieces,
    retry,
)
from edgec.storage.files import storage_errors, write_atomically
from edgec.storage.guard import guarded
from edgec.storage.staging import stage
from edgec.workers.worker import Progress

_LOCK = "publish.lock"
_AGAIN = "publish it there again"
_REMOVE = "remove it, then publish there again"


class FolderStore:
    """A folder of published bundles."""

    def __init__(self, location: FolderLocation, policy: RetryPolicy) -> None:
        self._path = location.path
        self._policy = policy

    def publish(self, bundles: Sequence[LocalBundle], *, add: bool, progress: Progress) -> PublishResult:
        """See `edgec.publish.store.Store.publish`."""
        for bundle in bundles:
            _refuse_itself(bundle.path, self._path / bundle.target)
        refuse_within(self._path)
        with _write_errors(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            with self._lock(progress), stage(self._path) as folder:
                return self._publish(bundles, folder, add=add, progress=progress)

    def _publish(self, bundles: Sequence[LocalBundle], folder: Path, *, add: bool, progress: Progress) -> PublishResult:
        written = read_folder_index(self._path)
        old = _present_bundles(self._path, written or Index())
        new = Index(bundles={**(old.bundles if add else {}), **entries(bundles)})
        stale = [bundle for bundle in bundles if not matches_files(self._path / bundle.target, bundle.files)]
        for bundle in stale:
            refuse_foreign(self._path / bundle.target)
            _copy(bundle, folder / bundle.target, progress)
        replaced = {bundle.target: new.bundles[bundle.target] for bundle in stale if bundle.target in old.bundles}
        if replaced:
            self._write_index(old.model_copy(update={"replacing": replaced}), folder)
        for bundle in stale:
            publish_folder(folder / bundle.target, self._path / bundle.target)
        if new != written:
            progress("write the index")
            self._write_index(new, folder)
        left = [target for target in old.bundles if target not in new.bundles]
        sent = [file for bundle in stale for file in bundle.files]
        return PublishResult(
            reference=str(self._path),
            targets=tuple(sorted(new.bundles)),
            sent=len(sent),
            sent_bytes=sum(file.size for file in sent),
            kept=sum(len(bundle.files) for bundle in bundles) - len(sent),
            changed=bool(sent) or new != written,
            notes=tuple(f"{target} is not published there any more; its folder is kept" for target in left),
        )

    def read(self, progress: Progress) -> FolderSnapshot:
        """See `edgec.publish.store.Store.read`."""
        index = read_folder_index(self._path)
        if index is None:
            what = "nothing is published in this folder" if self._path.is_dir() else "this folder does not exist"
            raise NothingPublishedError(
                f"{what}: {INDEX} is missing", where=str(self._path), hint="publish there first: edgec publish"
            )
        return FolderSnapshot(self._path, index)

    def _write_index(self, index: Index, folder: Path) -> None:
        write_atomically(folder / INDEX, index.to_json())
        (folder / INDEX).replace(self._path / INDEX)

    @contextmanager
    def _lock(self, progress: Progress) -> Iterator[None]:
        """Hold the publishers' lock; a killed process does not keep it."""
        stack = contextlib.ExitStack()

        def acquire() -> None:
            try:
                stack.enter_context(guarded(self._path / ".work" / _LOCK, self._policy.timeout))
            except TimeoutError:
                raise TransientError("another publish is in progress", where=str(self._path)) from None

        if (self._path / ".work").is_symlink():
            raise StorageError("a symbolic link is not allowed here", where=str(self._path / ".work"), hint="remove it")
        with stack:
            retry(acquire, self._policy, progress, "publish")
            yield


class FolderSnapshot:
    """The content of a folder as it was when its index was read."""

    def __init__(self, path: Path, index: Index) -> None:
        self._path = path
        self._index = index

    @property
    def targets(self) -> tuple[str, ...]:
        """See `edgec.publish.store.Snapshot.targets`."""
        return tuple(sorted(self._index.bundles))

    def bundle(self, target: str) -> RemoteBundle:
        """See `edgec.publish.store.Snapshot.bundle`."""
        present = _present_bundles(self._path, self._index)
        entry = present.bundles[target]
        return RemoteBundle(target=target, files=entry.files, offer=entry.offer)

    @contextmanager
    def open(self, target: str, file: BundleFile, start: int) -> Iterator[ByteStream]:
        """See `edgec.publish.store.Snapshot.open`."""
        where = self._path / target / file.name
        with _reading(where), os.fdopen(_open_below(self._path, PurePosixPath(target, file.name)), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != file.size:
                what = f"it has {size} bytes, not {file.size} as in the index"
                raise PublishError(what, where=str(where), hint=_AGAIN)
            stream.seek(start)
            yield ByteStream(start, read_pieces(stream))


def read_folder_index(folder: Path) -> Index | None:
    """Read the index of a folder; None where nothing is published.

    Raises:
        PublishError: it is damaged, a newer edgec wrote it, or it cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise PublishError("this is a file, not a folder", where=str(folder), hint=f"locations: {FORMS}")
    with _reading(folder / INDEX, _REMOVE):
        try:
            descriptor = _open_below(folder, PurePosixPath(INDEX), _REMOVE)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            return parse_index(stream.read(MAX_BYTES + 1), str(folder / INDEX))


def _open_below(folder: Path, name: PurePosixPath, hint: str = _AGAIN) -> int:
    """Open a regular file below a folder for reading; a symbolic link on the way, or a device, is refused."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for number, part in enumerate(name.parts, start=1):
        last = number == len(name.parts)
        flags = os.O_RDONLY | os.O_NOFOLLOW | (os.O_NONBLOCK if last else os.O_DIRECTORY)
        try:
            inner = os.open(part, flags, dir_fd=opened)
        finally:
            os.close(opened)
        opened = inner
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise PublishError("this is not a regular file", where=str(folder / name), hint=hint)
    return opened


@contextmanager
def _reading(where: Path, hint: str = _AGAIN) -> Iterator[None]:
    """Raise errors of reading a published file as PublishErrors."""
    try:
        yield
    except OSError as exc:
        linked = exc.errno in {errno.ELOOP, errno.ENOTDIR}  # of O_NOFOLLOW, for a file and for a folder
        what = "a symbolic link is not followed" if linked else f"cannot be read: {(exc.strerror or str(exc)).lower()}"
        raise PublishError(what, where=str(where), hint=hint) from exc


@contextmanager
def _write_errors(location: Path) -> Iterator[None]:
    """Raise errors of writing as StorageErrors with hints that fit publishing."""
    try:
        with storage_errors(location):
            yield
    except StorageError as exc:
        hint = exc.hint.split(":")[0].replace(
            "or write to another file system with --out", "or publish to another location"
        )
        raise StorageError(exc.what, where=exc.where, hint=hint) from exc


def _present_bundles(folder: Path, index: Index) -> Index:
    """The index with, for each target that a publish began to replace, the bundle that its folder has now."""
    arrived = {
        target: entry
        for target, entry in index.replacing.items()
        if target in index.bundles and _begins_as(folder / target, entry)
    }
    return Index(bundles={**index.bundles, **arrived})


def _begins_as(bundle: Path, entry: Entry) -> bool:
    """Whether a bundle has the manifest of `entry`, and its other files without a digest in the manifest."""
    beside = [file for file in entry.files if not is_digested(file.name)]
    return all(
        (bundle / file.name).is_file() and digest_file(bundle / file.name).sha256 == file.sha256 for file in beside
    )


def _copy(bundle: LocalBundle, destination: Path, progress: Progress) -> None:
    for file in bundle.files:
        progress(f"{bundle.target}: copy {file.name} ({mebibytes(file.size)})")
        to = destination / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        with open_file(bundle.path / file.name) as stream:
            copy_checked(read_pieces(stream), file, to)


def _refuse_itself(bundle: Path, destination: Path) -> None:
    if destination.resolve() == bundle.resolve() or destination.resolve().is_relative_to(bundle.resolve()):
        what = "a bundle cannot be published into its own folder"
        raise UsageError(what, where=str(bundle), hint="publish to a folder outside of the bundle")
