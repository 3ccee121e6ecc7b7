"""Writing a bundle: made in a private folder, digested, and put in place in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from edgec.bundle.manifest import (
    ATTESTATIONS,
    MANIFEST,
    MEASUREMENTS,
    REPORT,
    SBOM,
    SUMS,
    FileRecord,
    Manifest,
    Measurements,
)
from edgec.errors import StorageError, UsageError
from edgec.storage.files import write_atomically

PROGRAMS = frozenset({"bench/bench.py", "bench/run.sh"})
"""Files of a bundle that are run; all others have mode 0644."""
_EPOCH_DIGITS = 10
"""Of SOURCE_DATE_EPOCH: until the year 2286."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""linux/fs.h: swap two paths atomically."""
_UNAVAILABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
"""What renameat2 answers where kernel or file system has no exchange."""


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into a StorageError."""
    try:
        yield
    except OSError as exc:
        hints = {
            errno.ENOSPC: "free some space, or write to another file system with --out",
            errno.EDQUOT: "your disk quota is used up: free some space, or write elsewhere with --out",
            errno.EROFS: "the file system is read-only: write elsewhere with --out",
            errno.EACCES: "you may not write there: change the permissions, or write elsewhere with --out",
            errno.EPERM: "you may not write there: change the permissions, or write elsewhere with --out",
        }
        reason = (exc.strerror or str(exc)).lower()
        hint = hints.get(exc.errno or 0, "")
        raise StorageError(f"cannot write: {reason}", where=str(exc.filename or where), hint=hint) from exc


def _work(parent: Path) -> Path:
    folder = parent / ".work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def bundle_lock(destination: Path) -> Iterator[None]:
    """Hold the right to build `destination`; a second build of it waits. The lock of a killed process is free."""
    with storage_errors(destination):
        lock = filelock.FileLock(_work(destination.parent) / f"{destination.name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stage(parent: Path) -> Iterator[Path]:
    """A private folder on the file system of `parent`; what is still there at the end is removed."""
    with storage_errors(parent):
        work = _work(parent)
        _remove_abandoned(work)
        folder = Path(tempfile.mkdtemp(prefix=f"stage-{os.getpid()}-", dir=work))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(work: Path) -> None:
    for folder in work.glob("stage-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def digest_file(path: Path) -> FileRecord:
    """Digest and size of a file, read from disk."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileRecord(sha256=digest.hexdigest(), size=stream.tell())


def is_digested(relative: str) -> bool:
    """Whether a path of a bundle is listed in its manifest; the exceptions are in `edgec.bundle.manifest`."""
    unfinished = relative.startswith((f".{SBOM}-", f".{ATTESTATIONS}-"))  # left by a signing that was killed
    beside = relative in {MANIFEST, MEASUREMENTS, REPORT, SBOM, ATTESTATIONS}
    return not (beside or unfinished or is_result(relative))


def is_result(relative: str) -> bool:
    """Whether a path of a bundle is what its harness writes on a device, or left there when it was killed."""
    folder, _, name = relative.rpartition("/")
    partial = name.startswith(".result") and name.endswith(".partial")
    return folder == "bench" and (partial or (name.startswith("result") and name.endswith(".json")))


def file_mode(relative: str) -> int:
    """Mode of a file of a bundle, by its path in it: the same everywhere, whatever a place or archive says."""
    return 0o755 if relative in PROGRAMS else 0o644


def digest_folder(folder: Path) -> dict[str, FileRecord]:
    """All digested files below `folder`, by relative path, in order of path."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {path: digest_file(folder / path) for path in paths if is_digested(path)}


def write_measurements(folder: Path, measurements: Measurements) -> None:
    """Write ``measurements.json``."""
    with storage_errors(folder):
        write_atomically(folder / MEASUREMENTS, measurements.model_dump_json(indent=1) + "\n")


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Digest all files of a staged bundle and write ``SHA256SUMS`` and, as the last file, ``manifest.json``."""
    with storage_errors(folder):
        files = digest_folder(folder)
        files.pop(SUMS, None)
        sums = "".join(f"{item.sha256}  {path}\n" for path, item in files.items())
        write_atomically(folder / SUMS, sums)
        files[SUMS] = digest_file(folder / SUMS)
        complete = manifest.model_copy(update={"files": files})
        write_atomically(folder / MANIFEST, complete.to_json())
    return complete


def publish_folder(staged: Path, destination: Path) -> None:
    """Put a complete folder in place of `destination`, which at each moment is the old one, the new one or absent.

    Args:
        staged: folder from `stage`, on the same file system; gone afterwards.
        destination: the bundle; an existing folder that is not a bundle is left alone.

    Raises:
        StorageError: the write is refused, or `destination` is not edgec's to replace.
    """
    refuse_foreign(destination)
    with storage_errors(destination):
        settle(staged)
        _sync(staged)
        if not destination.exists():
            staged.rename(destination)
        elif not _exchange(staged, destination):
            aside = Path(tempfile.mkdtemp(prefix=f"stage-{os.getpid()}-", dir=_work(destination.parent)))
            destination.rename(aside / "old")
            staged.rename(destination)
            shutil.rmtree(aside, ignore_errors=True)
        _sync_folder(destination.parent)
    shutil.rmtree(staged, ignore_errors=True)  # after an exchange, the old bundle


def settle(staged: Path) -> None:
    """Give all below a staged folder the modes that bundles have everywhere, whatever the umask: those of `file_mode`,
    and 0755 for folders. Where SOURCE_DATE_EPOCH is set, files get that time.

    Raises:
        StorageError: the write is refused.
        UsageError: SOURCE_DATE_EPOCH is not as reproducible-builds.org/specs/source-date-epoch says.
    """
    epoch = source_date_epoch()
    with storage_errors(staged):
        for path in (staged, *staged.rglob("*")):
            path.chmod(0o755 if path.is_dir() else file_mode(path.relative_to(staged).as_posix()))
            if epoch is not None and not path.is_dir():
                os.utime(path, (epoch, epoch))


def source_date_epoch() -> int | None:
    """Seconds since 1970 that the environment wants for all times in what is built; None when it does not say.

    Raises:
        UsageError: it says something else (reproducible-builds.org/specs/source-date-epoch).
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _EPOCH_DIGITS):
        raise UsageError(
            f'SOURCE_DATE_EPOCH is "{text}"', hint="set it to seconds since 1970: $(git log -1 --format=%ct)"
        )
    return int(text)


def discard(destination: Path) -> None:
    """Remove the bundle of an earlier build, when a newer build found its successor not good enough."""
    if not destination.exists() and not destination.is_symlink():
        return
    refuse_foreign(destination)
    with storage_errors(destination), stage(destination.parent) as folder:
        destination.rename(folder / "discarded")
        _sync_folder(destination.parent)


def refuse_foreign(destination: Path) -> None:
    """Raise StorageError when what is at `destination` is not edgec's to replace."""
    if not destination.exists() and not destination.is_symlink():
        return
    ours = destination.is_dir() and not destination.is_symlink()
    if ours and any(destination.iterdir()):
        ours = (destination / MANIFEST).exists() or (destination / SUMS).exists()
    if not ours:
        raise StorageError(
            "something that is not a bundle is in the way", where=str(destination), hint="move it away, or use --out"
        )


def refuse_within(folder: Path) -> None:
    """Raise UsageError when bundles are to be put into a folder that is a bundle, or is in one: it would be spoilt."""
    for place in (folder.resolve(), *folder.resolve().parents):
        marks = [os.path.lexists(place / name) for name in (MANIFEST, SUMS)]
        if all(marks) or (any(marks) and place == folder.resolve()):
            what = "this is a bundle, and others cannot be put into it"
            raise UsageError(what, where=str(place), hint=f"name the folder above: {place.parent}")


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNAVAILABLE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
