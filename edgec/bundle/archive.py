"""A bundle as one file (``.tar.gz``), the same bytes each time; and back, without trusting the file."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from edgec.bundle.check import MAX_MANIFEST, check_digests, read_bundle
from edgec.bundle.files import BESIDE, bundle_files
from edgec.bundle.manifest import MANIFEST
from edgec.bundle.names import MAX_FILES, collision, name_problem
from edgec.bundle.write import file_mode, publish_folder, refuse_within, source_date_epoch
from edgec.errors import BundleError, StorageError
from edgec.storage.files import storage_errors
from edgec.storage.staging import destination_lock, stage
from edgec.storage.temporary import private_folder
from edgec.target.spec import check_name

SUFFIX = ".tar.gz"
"""What follows the target in an archive's name."""
_EPOCH = 315532800
"""1980-01-01, the earliest time that all archive formats have."""
_LEVEL = 6
"""Of zlib; another version of zlib may give other bytes."""
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_CHUNK = 1 << 20
_GZIP = zlib.MAX_WBITS | 16
"""The window of zlib that reads gzip's header and checksum."""
_BETWEEN = 1 << 20
"""Bytes that headers and padding may take before a file; tarfile reads a little ahead."""
_HINT = "get it again; an archive that edgec wrote is refused only when it was changed"


def pack(bundles: Sequence[Path], out: Path) -> Iterator[Path]:
    """Write each bundle to ``<out>/<target>.tar.gz``; gives each archive as it is there.

    Raises:
        BundleError: one is not as its manifest says, or two are for one target; of the latter nothing is written.
        StorageError, UsageError: as `write_archive`.
    """
    by_target: dict[str, Path] = {}
    for bundle in bundles:
        target = read_bundle(bundle).target.name
        if (other := by_target.setdefault(target, bundle)) != bundle:
            raise BundleError(f"two bundles are for {target}: this and {other}", where=str(bundle), hint="name one")
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for target, bundle in by_target.items():
        write_archive(bundle, out / f"{target}{SUFFIX}")
        yield out / f"{target}{SUFFIX}"


def unpack(archives: Sequence[Path], out: Path) -> Iterator[Path]:
    """Put the bundle of each ``<target>.tar.gz`` at ``<out>/<target>``; gives each bundle as it is in place.

    Raises:
        BundleError: an archive is not called as the target of its bundle, two are for one target (then nothing is put
            in place), or as `read_archive`.
        StorageError: as `read_archive`.
        UsageError: `out` is a bundle, or in one.
    """
    refuse_within(out)
    by_target: dict[str, Path] = {}
    for archive in archives:
        target = _target_in_name(archive)
        if (other := by_target.setdefault(target, archive)) != archive:
            raise BundleError(f"two archives are for {target}: this and {other}", where=str(archive), hint="name one")
    for target, archive in by_target.items():
        read_archive(archive, out / target)
        yield out / target


def _target_in_name(archive: Path) -> str:
    try:
        if not archive.name.endswith(SUFFIX):
            raise ValueError("it has another ending")
        return check_name(archive.name.removesuffix(SUFFIX))
    except ValueError as exc:
        what = f"an archive of a bundle is called TARGET{SUFFIX}: {exc}"
        raise BundleError(what, where=str(archive), hint="unpack what edgec pack wrote, under its name") from None


def write_archive(bundle: Path, out: Path) -> None:
    """Write the bundle in folder `bundle` to `out`, which appears whole or not at all.

    The same bundle gives the same bytes: ustar headers (POSIX.1-2001 pax where a name is too long), the manifest first
    and the rest by name, owner 0 without names, modes 0644 and 0755, all times SOURCE_DATE_EPOCH or 1980-01-01; gzip
    (RFC 1952) without name and time. What a harness has written into the bundle is left out.

    Raises:
        BundleError: as `edgec.bundle.files.bundle_files`.
        StorageError: `out` cannot be written.
        UsageError: SOURCE_DATE_EPOCH is not a time.
    """
    epoch = source_date_epoch()
    files = sorted(bundle_files(bundle), key=lambda file: (file.name != MANIFEST, file.name))
    with storage_errors(out), private_folder(out.parent, f".{out.name}-") as folder:
        partial = folder / out.name
        with partial.open("wb") as stream:
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=stream, mtime=0)
            with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for item in files:
                    member = tarfile.TarInfo(item.name)
                    member.size = item.size
                    member.mode = file_mode(item.name)
                    member.mtime = _EPOCH if epoch is None else epoch
                    with (bundle / item.name).open("rb") as content:
                        archive.addfile(member, content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.chmod(0o644)
        partial.replace(out)


def read_archive(archive: Path, destination: Path) -> None:
    """Put the bundle in `archive` in place of `destination`, complete and as its manifest says, or not at all.

    Args:
        archive: that `write_archive` wrote, or another program.
        destination: ends in the name of the bundle's target.

    Raises:
        BundleError: it is not such an archive, it is damaged or cut off, its first file is not the manifest, a file is
            not there by name and size, its bundle is for another target, or it holds links, devices, folders, absolute
            paths, paths out of the bundle, a name twice, or anything after its end.
        StorageError: the disk is full, or something that is not a bundle is at `destination`.
    """
    if not archive.is_file():
        raise BundleError("there is no such file", where=str(archive))
    with destination_lock(destination), stage(destination.parent) as folder:
        with _readable(archive), _opened(archive) as file:
            sizes = {MANIFEST: MAX_MANIFEST}
            seen: set[str] = set()
            packed = _Unpacked(file)
            with tarfile.open(fileobj=cast(IO[bytes], packed), mode="r|") as content:
                for member in content:
                    _check(member, seen, sizes, archive)
                    packed.left = member.size + _BETWEEN
                    stream = content.extractfile(member)
                    assert stream is not None  # it is a regular file
                    _extract(member, stream, folder)
                    packed.left = _BETWEEN
                    if len(seen) == 1:
                        sizes = _sizes(folder, archive)
            packed.finish()
        with _in_archive(archive):
            name = check_digests(folder).target.name
        if name != destination.name:
            raise BundleError(f"its bundle is for {name}, not for {destination.name}", where=str(archive), hint=_HINT)
        publish_folder(folder, destination)


class _Unpacked:
    """The one gzip member (RFC 1952) of a file; it fails after `left` bytes, however much was packed into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._zlib = zlib.decompressobj(_GZIP)
        self.left = _BETWEEN

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, where its checksum was right."""
        content = self._zlib.decompress(self._zlib.unconsumed_tail, size)
        while not content and not self._zlib.eof:
            if not (piece := self._file.read(_CHUNK)):
                raise EOFError
            content = self._zlib.decompress(piece, size)
        self.left -= len(content)
        if self.left < 0:
            raise tarfile.ReadError("it has a header larger than any of a bundle, or something after its files")
        return content

    def finish(self) -> None:
        """Read to its end: nothing but the zeros that end an archive may follow."""
        self.left = _BETWEEN
        while content := self.read(_CHUNK):
            if content.strip(b"\0"):
                raise tarfile.ReadError("there is something after its last file")
        if self._zlib.unused_data or self._file.read(1):
            raise tarfile.ReadError("there is something after its end")


def _check(member: tarfile.TarInfo, seen: set[str], sizes: Mapping[str, int], archive: Path) -> None:
    """Refuse a member that the bundle does not have; add its name to `seen`.

    Args:
        member: the next one.
        seen: names of those before it.
        sizes: name -> bytes, which those beside the manifest may have at most, and all others have.
        archive: for the message.
    """
    wrong = ""
    if member.type not in _REGULAR:
        wrong = "is not a regular file"
    elif problem := name_problem(member.name):
        wrong = f"is not a name in a bundle: {problem}"
    elif member.name in seen:
        wrong = "is there twice"
    elif not seen and member.name != MANIFEST:
        wrong = f"is its first file, which is {MANIFEST} in an archive of a bundle"
    elif member.name not in sizes:
        wrong = "is not in its manifest"
    elif member.size > sizes[member.name] or (member.size != sizes[member.name] and member.name not in BESIDE):
        wrong = f"has {member.size} bytes, not {sizes[member.name]}"
    if wrong:
        raise BundleError(f"{member.name!a} {wrong}", where=str(archive), hint=_HINT)
    seen.add(member.name)


def _sizes(folder: Path, archive: Path) -> dict[str, int]:
    """What the files of a bundle take, by the manifest in `folder`; refuses one that cannot be."""
    with _in_archive(archive):
        listed = read_bundle(folder).files
    problem = next((f"{name!a}: {why}" for name in listed if (why := name_problem(name))), "") or collision(listed)
    if len(listed) > MAX_FILES:
        problem = f"{len(listed)} files; a bundle has {MAX_FILES} at most"
    if problem:
        raise BundleError(f"its manifest is refused: {problem}", where=str(archive), hint=_HINT)
    total = sum(record.size for record in listed.values())
    with storage_errors(folder):
        free = shutil.disk_usage(folder).free
    if total > free:
        raise StorageError(f"its files have {total} bytes, and {free} are free", where=str(folder), hint="free some")
    return {**{name: record.size for name, record in listed.items()}, **dict.fromkeys(BESIDE, MAX_MANIFEST)}


def _extract(member: tarfile.TarInfo, stream: IO[bytes], folder: Path) -> None:
    safe = tarfile.data_filter(member, str(folder))
    file = folder / safe.name
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("xb")
    with opened as out:
        while chunk := stream.read(_CHUNK):
            with storage_errors(file):
                out.write(chunk)
    if file.stat().st_size != safe.size:
        raise EOFError


def _opened(archive: Path) -> IO[bytes]:
    try:
        return archive.open("rb")
    except OSError as exc:
        raise StorageError(f"cannot be read: {exc.strerror or exc}", where=str(archive)) from exc


@contextlib.contextmanager
def _in_archive(archive: Path) -> Iterator[None]:
    """Raise a BundleError with the archive instead of the private folder."""
    try:
        yield
    except BundleError as exc:
        raise BundleError(exc.what, where=str(archive), hint=_HINT) from exc


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turn what the formats' readers raise into a BundleError."""
    try:
        yield
    except (EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError) as exc:
        reason = str(exc) or "it ends too early"
        raise BundleError(f"this is not an archive of a bundle: {reason}", where=str(archive), hint=_HINT) from exc
