"""A bundle as one file (``.tar.gz``), the same bytes each time; and back, without trusting the file."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from edgec.bundle.check import check_digests
from edgec.bundle.files import bundle_files
from edgec.bundle.write import bundle_lock, publish_folder, source_date_epoch, stage, storage_errors
from edgec.errors import BundleError, StorageError

_EPOCH = 315532800
"""1980-01-01, the earliest time that all archive formats have."""
_LEVEL = 6
"""Of zlib; another version of zlib may give other bytes."""
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_CHUNK = 1 << 20
_HINT = "get it again; an archive that edgec wrote is refused only when it was changed"


def write_archive(bundle: Path, out: Path) -> None:
    """Write the bundle in folder `bundle` to `out`, which appears whole or not at all.

    The same bundle gives the same bytes: ustar headers (POSIX.1-2001 pax where a name is too long), names sorted,
    owner 0 without names, modes 0644 and 0755, all times SOURCE_DATE_EPOCH or 1980-01-01; gzip (RFC 1952) without name
    and time. What a harness has written into the bundle is left out.

    Raises:
        BundleError: as `edgec.bundle.files.bundle_files`.
        StorageError: `out` cannot be written.
        UsageError: SOURCE_DATE_EPOCH is no time.
    """
    epoch = source_date_epoch()
    files = bundle_files(bundle)
    with storage_errors(out):
        handle, partial = tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=stream, mtime=0)
                with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    for item in files:
                        member = tarfile.TarInfo(item.name)
                        member.size = item.size
                        member.mode = 0o755 if item.executable else 0o644
                        member.mtime = _EPOCH if epoch is None else epoch
                        with (bundle / item.name).open("rb") as content:
                            archive.addfile(member, content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(partial).chmod(0o644)
            Path(partial).replace(out)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def read_archive(archive: Path, destination: Path) -> None:
    """Put the bundle in `archive` in place of `destination`, complete and as its manifest says, or not at all.

    Raises:
        BundleError: it is no such archive, it is damaged or cut off, its files are not those of its manifest, or it
            has what no bundle has: links, devices, folders, absolute paths, ways out, a name twice.
        StorageError: the disk is full, or something that is no bundle is at `destination`.
    """
    if not archive.is_file():
        raise BundleError("there is no such file", where=str(archive))
    with bundle_lock(destination), stage(destination.parent) as folder:
        with _readable(archive), gzip.open(archive) as packed:
            names: set[str] = set()
            with tarfile.open(fileobj=packed, mode="r|") as content:
                for member in content:
                    _check(member, names, archive)
                    stream = content.extractfile(member)
                    assert stream is not None  # it is a regular file
                    _extract(member, stream, folder)
            while packed.read(_CHUNK):  # to its end, where its checksum is
                pass
        check_digests(folder)
        publish_folder(folder, destination)


def _check(member: tarfile.TarInfo, names: set[str], archive: Path) -> None:
    """Refuse a member that no bundle has; add its name to `names`."""
    path = PurePosixPath(member.name)
    wrong = ""
    if member.type not in _REGULAR:
        wrong = "is no regular file"
    elif path.is_absolute() or ".." in path.parts or not path.parts:
        wrong = "leads out of the bundle"
    elif str(path) != member.name or not member.name.isprintable() or "\\" in member.name:
        wrong = "is not a plain name"
    elif member.name in names:
        wrong = "is there twice"
    elif any(str(above) in names for above in path.parents) or any(name.startswith(f"{path}/") for name in names):
        wrong = "is both a file and a folder"
    if wrong:
        raise BundleError(f"{member.name!r} {wrong}", where=str(archive), hint=_HINT)
    names.add(member.name)


def _extract(member: tarfile.TarInfo, stream: IO[bytes], folder: Path) -> None:
    safe = tarfile.data_filter(member, str(folder))
    file = folder / safe.name
    with storage_errors(file):
        if safe.size > (free := shutil.disk_usage(folder).free):
            raise StorageError(f"{safe.name} has {safe.size} bytes, and {free} are free", where=str(folder))
        file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as out:
        while chunk := stream.read(_CHUNK):
            with storage_errors(file):
                out.write(chunk)
    if file.stat().st_size != safe.size:
        raise EOFError
    file.chmod(0o755 if (safe.mode or 0) & 0o100 else 0o644)


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turn what the formats' readers raise into a BundleError."""
    try:
        yield
    except (EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError) as exc:
        told = str(exc) or "it ends too early"
        raise BundleError(f"this is no archive of a bundle: {told}", where=str(archive), hint=_HINT) from exc
