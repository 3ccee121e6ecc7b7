"""Moving files whose digest is known: in pieces, checked while they pass, tried again when a connection breaks.

Memory does not depend on a file's size. A file has its final name only when all its bytes have the digest and are on
disk; what a broken connection leaves is kept under a name of its own, and is where the next try goes on.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, TypeVar

from edgec.bundle.files import BundleFile, bundle_files
from edgec.bundle.write import PROGRAMS, digest_file, storage_errors
from edgec.errors import BundleError, PublishError
from edgec.publish.store import ByteStream
from edgec.workers.worker import Progress

T = TypeVar("T")

CHUNK = 1 << 20
"""Bytes that are read, hashed and written at once."""
LONGEST_WAIT = 10.0
"""Seconds between two tries at most."""
LONGEST_ASKED = 60.0
"""The same, where the server asks for more."""
REPORT_EVERY = 5.0
"""Seconds between two reports of how much of a file has passed."""
PARTIAL = ".partial"


class TransientError(PublishError):
    """A connection broke, no answer came in time, or a server is busy: another try may succeed.

    Args:
        after: seconds after which the server asks to be tried again.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "", after: float = 0.0) -> None:
        self.after = after
        super().__init__(what, where=where, hint=hint)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a location, and how often to try."""

    timeout: float = 30.0
    """Seconds without a byte after which a connection counts as broken."""
    retries: int = 4
    """Tries after the first one."""
    wait: float = 0.5
    """Seconds before the second try; doubles with each, up to `LONGEST_WAIT`."""


def retry(action: Callable[[], T], policy: RetryPolicy, progress: Progress, what: str) -> T:
    """What `action` returns, tried again while it raises `TransientError`.

    Args:
        action: must be able to begin anew, or to go on where it was.
        policy: how often, and how long to wait between.
        progress: told of each new try.
        what: for `progress`, e.g. "send model.tflite".

    Raises:
        TransientError: of the last try, with the number of tries.
    """
    for left in reversed(range(policy.retries + 1)):
        try:
            return action()
        except TransientError as exc:
            if not left:
                tries = policy.retries + 1
                told = f"{exc.what} ({tries} tries)" if tries > 1 else exc.what
                raise TransientError(told, where=exc.where, hint=exc.hint) from exc
            wait = min(LONGEST_WAIT, policy.wait * 2 ** (policy.retries - left))
            wait = max(wait, min(LONGEST_ASKED, exc.after))
            progress(f"{what}: {exc.what}; again in {wait:g} s")
            time.sleep(wait)
    raise AssertionError("unreachable: the last try returns or raises")


def mebibytes(size: int) -> str:
    """``3.1 MiB``, or ``812 B`` for what is smaller than 0.1 MiB."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 else f"{size} B"


def open_file(path: Path) -> BinaryIO:
    """Open a file of a bundle that is sent.

    Raises:
        BundleError: it was there when its digest was checked, and cannot be read now.
    """
    try:
        return path.open("rb")
    except OSError as exc:
        what = f"it cannot be read any more: {(exc.strerror or str(exc)).lower()}"
        raise BundleError(what, where=str(path), hint="build it again, then retry") from exc


def read_pieces(source: BinaryIO) -> Iterator[bytes]:
    """What is left in a stream, in pieces of `CHUNK` bytes."""
    while piece := source.read(CHUNK):
        yield piece


def download(
    file: BundleFile,
    source: Callable[[int], AbstractContextManager[ByteStream]],
    folder: Path,
    policy: RetryPolicy,
    progress: Progress,
) -> Path:
    """Get a file into ``folder/<sha256>``, going on with what an earlier try left there.

    Args:
        file: its digest and size; the name is for messages.
        source: gives the bytes from a position on; asked again after each `TransientError`.
        folder: where finished and unfinished files are kept; nobody else writes there meanwhile.
        policy: how often, and how long to wait between.
        progress: told what passes.

    Raises:
        PublishError: the bytes have another digest or size; they are not kept.
        TransientError: no try succeeded; what has come is kept as ``<sha256>.partial``.
        StorageError: the disk is full or refuses the write.
    """
    done, partial = folder / file.sha256, folder / (file.sha256 + PARTIAL)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if done.is_file() and not done.is_symlink():
            if digest_file(done).sha256 == file.sha256:
                progress(f"{file.name}: here already")
                return done
            done.unlink()
    what = f"{file.name} ({mebibytes(file.size)})"
    progress(what)
    retry(lambda: _append(file, source, partial, progress), policy, progress, file.name)
    with storage_errors(folder):
        partial.replace(done)
    return done


def _append(
    file: BundleFile, source: Callable[[int], AbstractContextManager[ByteStream]], partial: Path, progress: Progress
) -> None:
    """Complete `partial` and check it whole; one that an earlier try left and that turns out wrong begins anew once."""
    with storage_errors(partial):
        if partial.is_symlink() or (partial.exists() and partial.stat().st_size > file.size):
            partial.unlink()
        partial.touch()
    begun = partial.stat().st_size
    with source(begun) if begun < file.size else nullcontext(ByteStream(begun, iter(()))) as body:
        start = body.start
        if start not in {0, begun}:
            raise PublishError(f"the bytes from {start} on came, not from {begun}", where=file.name)
        size, digest = _write_body(file, body, partial, progress)
        mend = body.hint
    if size < file.size:
        raise TransientError(f"the connection ended after {size} of {file.size} bytes", where=file.name)
    if size == file.size and digest == file.sha256:
        return
    with storage_errors(partial):
        partial.unlink()
    if start:  # what was kept may be the wrong part
        _append(file, source, partial, progress)
        return
    came = f"its digest is sha256:{digest}, not sha256:{file.sha256}" if size == file.size else "it is longer"
    raise PublishError(f"what came is not what the index says: {came}", where=file.name, hint=mend)


def _write_body(file: BundleFile, body: ByteStream, partial: Path, progress: Progress) -> tuple[int, str]:
    """Append a body to the first ``body.start`` bytes of `partial`; size and digest of the whole.

    Ends early when more comes than the file's size. Only what concerns the disk is told as a StorageError.
    """
    told = time.monotonic()
    with storage_errors(partial), partial.open("r+b") as stream:
        stream.truncate(body.start)
        digest = hashlib.sha256()
        for piece in read_pieces(stream):
            digest.update(piece)
    size = body.start
    with partial.open("ab", buffering=0) as stream:
        for piece in body.chunks:
            size += len(piece)
            if size > file.size:
                break
            digest.update(piece)
            with storage_errors(partial):
                write_all(stream, piece)
            if time.monotonic() - told >= REPORT_EVERY:
                told = time.monotonic()
                progress(f"{file.name}: {mebibytes(size)} of {mebibytes(file.size)}")
        with storage_errors(partial):
            os.fsync(stream.fileno())
    return size, digest.hexdigest()


def write_all(stream: RawIOBase, piece: bytes) -> None:
    """Write a whole piece to an unbuffered file: one write may take only a part, as before a full disk or a limit."""
    rest = memoryview(piece)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


def copy_checked(pieces: Iterable[bytes], file: BundleFile, destination: Path) -> None:
    """Write `pieces` as a new file, flushed to disk; its mode is for `edgec.bundle.write.settle`.

    Raises:
        BundleError: they have another digest than `file`; nothing is left.
        OSError: the write is refused; nothing is left.
    """
    digest = hashlib.sha256()
    try:
        with destination.open("xb") as stream:
            for piece in pieces:
                digest.update(piece)
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        if digest.hexdigest() != file.sha256:
            raise BundleError("the file changed while it was read", where=file.name, hint="build it again, then retry")
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def matches_files(bundle: Path, files: tuple[BundleFile, ...]) -> bool:
    """Whether a folder is a bundle of exactly these files, by their digests, and its programs can be run."""
    try:
        if bundle.is_symlink() or not bundle.is_dir() or bundle_files(bundle) != files:
            return False
    except BundleError:
        return False
    return all((bundle / file.name).stat().st_mode & stat.S_IXUSR for file in files if file.name in PROGRAMS)
