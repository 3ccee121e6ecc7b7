"""Transfer of files whose digest is known: in pieces, hashed on the way, retried when a connection breaks.

Memory does not depend on a file's size. A file has its final name only when all its bytes have the digest and are on
disk; a partial file is kept under another name, and the next attempt continues it.
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
from edgec.bundle.write import PROGRAMS, digest_file
from edgec.errors import BundleError, PublishError
from edgec.publish.store import ByteStream
from edgec.storage.files import storage_errors
from edgec.workers.worker import Progress

T = TypeVar("T")

CHUNK = 1 << 20
"""Bytes that are read, hashed and written at once."""
LONGEST_WAIT = 10.0
"""Seconds between two attempts at most."""
LONGEST_ASKED = 60.0
"""The same, where the server asks for a longer wait."""
REPORT_EVERY = 5.0
"""Seconds between two progress reports of a file."""
PARTIAL = ".partial"


class TransientError(PublishError):
    """A connection broke or timed out, or a server is busy: another attempt may succeed.

    Args:
        what, where, hint: as `EdgecError`.
        after: seconds after which the server asks for another attempt; 0: it does not say.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "", after: float = 0.0) -> None:
        self.after = after
        super().__init__(what, where=where, hint=hint)


@dataclass(frozen=True)
class RetryPolicy:
    """Time-out and retries of connections to a location."""

    timeout: float = 30.0
    """Seconds without a byte after which a connection counts as broken."""
    retries: int = 4
    """Attempts after the first one."""
    wait: float = 0.5
    """Seconds before the second attempt; doubles with each, up to `LONGEST_WAIT`."""


def retry(action: Callable[[], T], policy: RetryPolicy, progress: Progress, what: str) -> T:
    """Call `action`, again while it raises `TransientError`, and return its result.

    Args:
        action: can be called again after a failure.
        policy: number of attempts and the waits between them.
        progress: receives a line for each retry.
        what: name of the action for `progress`, e.g. "send model.tflite".

    Raises:
        TransientError: of the last attempt, with the number of attempts.
    """
    for left in reversed(range(policy.retries + 1)):
        try:
            return action()
        except TransientError as exc:
            if not left:
                attempts = f" ({policy.retries + 1} tries)" if policy.retries else ""
                raise TransientError(exc.what + attempts, where=exc.where, hint=exc.hint) from exc
            wait = min(LONGEST_WAIT, policy.wait * 2 ** (policy.retries - left))
            wait = max(wait, min(LONGEST_ASKED, exc.after))
            progress(f"{what}: {exc.what}; again in {wait:g} s")
            time.sleep(wait)
    raise AssertionError("unreachable: the last attempt returns or raises")


def mebibytes(size: int) -> str:
    """``3.1 MiB``, or ``812 B`` for what is smaller than 0.1 MiB."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 else f"{size} B"


def open_file(path: Path) -> BinaryIO:
    """Open a file of a bundle for sending.

    Raises:
        BundleError: it cannot be read any more.
    """
    try:
        return path.open("rb")
    except OSError as exc:
        what = f"it cannot be read any more: {(exc.strerror or str(exc)).lower()}"
        raise BundleError(what, where=str(path), hint="build it again, then retry") from exc


def read_pieces(source: BinaryIO) -> Iterator[bytes]:
    """The rest of a stream, in pieces of `CHUNK` bytes."""
    while piece := source.read(CHUNK):
        yield piece


def download(
    file: BundleFile,
    source: Callable[[int], AbstractContextManager[ByteStream]],
    folder: Path,
    policy: RetryPolicy,
    progress: Progress,
) -> Path:
    """Download a file to ``folder/<sha256>``; a partial file of an earlier attempt is continued.

    Args:
        file: digest and size; the name is for messages.
        source: opens the file at a position; called again after each `TransientError`.
        folder: of finished and partial files; no other process may write there.
        policy: number of attempts and the waits between them.
        progress: receives what is transferred.

    Raises:
        PublishError: the file has another digest or size; it is deleted.
        TransientError: all attempts failed; the received bytes are kept in ``<sha256>.partial``.
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
    """Complete `partial` and check its digest; a continued file with a wrong digest is downloaded once more."""
    with storage_errors(partial):
        if partial.is_symlink() or (partial.exists() and partial.stat().st_size > file.size):
            partial.unlink()
        partial.touch()
    begun = partial.stat().st_size
    with source(begun) if begun < file.size else nullcontext(ByteStream(begun, iter(()))) as body:
        start = body.start
        if start not in {0, begun}:
            raise PublishError(f"the source returned the bytes from {start} on, not from {begun}", where=file.name)
        size, digest = _write_body(file, body, partial, progress)
        hint = body.hint
    if size < file.size:
        raise TransientError(f"the connection ended after {size} of {file.size} bytes", where=file.name)
    if size == file.size and digest == file.sha256:
        return
    with storage_errors(partial):
        partial.unlink()
    if start:  # the partial file may be wrong
        _append(file, source, partial, progress)
        return
    why = f"its digest is sha256:{digest}, not sha256:{file.sha256}" if size == file.size else "it is longer"
    raise PublishError(f"the file does not match the index: {why}", where=file.name, hint=hint)


def _write_body(file: BundleFile, body: ByteStream, partial: Path, progress: Progress) -> tuple[int, str]:
    """Append a stream to the first ``body.start`` bytes of `partial`; returns size and digest of the whole.

    Stops early when the stream is longer than the file. Only errors of the disk are StorageErrors.
    """
    reported = time.monotonic()
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
            if time.monotonic() - reported >= REPORT_EVERY:
                reported = time.monotonic()
                progress(f"{file.name}: {mebibytes(size)} of {mebibytes(file.size)}")
        with storage_errors(partial):
            os.fsync(stream.fileno())
    return size, digest.hexdigest()


def write_all(stream: RawIOBase, piece: bytes) -> None:
    """Write all of `piece` to an unbuffered file, whose writes may be partial, e.g. before a disk is full."""
    rest = memoryview(piece)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


def copy_checked(pieces: Iterable[bytes], file: BundleFile, destination: Path) -> None:
    """Write a new file and flush it to disk; `edgec.bundle.write.settle` sets its mode.

    Args:
        pieces: the content.
        file: its digest, and its name for messages.
        destination: must not exist.

    Raises:
        BundleError: the content has another digest; the file is removed.
        OSError: the write failed; the file is removed.
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
    """Whether a folder is a bundle of exactly these files, by digest, and its programs are executable."""
    try:
        if bundle.is_symlink() or not bundle.is_dir() or bundle_files(bundle) != files:
            return False
    except BundleError:
        return False
    return all((bundle / file.name).stat().st_mode & stat.S_IXUSR for file in files if file.name in PROGRAMS)
