"""Writes bundles: digests and manifest, modes of files, and what a bundle may replace."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

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
from edgec.storage.files import storage_errors, write_atomically
from edgec.storage.staging import remove_folder, replace_folder

PROGRAMS = frozenset({"bench/bench.py", "bench/run.sh"})
"""Files of a bundle that are run; all others have mode 0644."""
_RESULT = re.compile(r"bench/(result[^/]*\.json|\.result[^/]*\.partial)")
_UNFINISHED = re.compile(rf"\.({re.escape(SBOM)}|{re.escape(ATTESTATIONS)})-\d+-[0-9a-f]{{8}}/\1")
"""What a signing that was killed has left (`edgec.storage.files.write_atomically`)."""
_EPOCH_DIGITS = 10
"""Of SOURCE_DATE_EPOCH: until the year 2286."""


def digest_file(path: Path) -> FileRecord:
    """Digest and size of a file, read from disk."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileRecord(sha256=digest.hexdigest(), size=stream.tell())


def is_digested(relative: str) -> bool:
    """Whether a path of a bundle is listed in its manifest; the exceptions are in `edgec.bundle.manifest`."""
    beside = relative in {MANIFEST, MEASUREMENTS, REPORT, SBOM, ATTESTATIONS}
    return not (beside or _UNFINISHED.fullmatch(relative) or is_result(relative))


def is_result(relative: str) -> bool:
    """Whether a path of a bundle is what its harness writes on a device, or left there when it was killed."""
    return _RESULT.fullmatch(relative) is not None


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
    """Put a complete bundle in place of `destination`, which at each moment is the old one, the new one or absent.

    Args:
        staged: folder from `edgec.storage.staging.stage`; gone afterwards.
        destination: the bundle; a folder that is not a bundle is left alone.

    Raises:
        StorageError: the write is refused, or `destination` is not edgec's to replace.
    """
    refuse_foreign(destination)
    settle(staged)
    replace_folder(staged, destination)


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
    remove_folder(destination)


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
