"""Files of an image folder: finds all that cannot be read, so that the others can be checked without them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.check.records import Finding, finding_of, warning
from edgec.dataset.image import IMAGE_SUFFIXES
from edgec.errors import DatasetError

OTHER_IMAGES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".tga", ".psd", ".svg", ".exr", ".hdr", ".dds", ".ico"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raw", ".qoi", ".pbm", ".pnm", ".jfif", ".eps"}
)
"""Suffixes of images that edgec does not read."""
_WIDE = ("I", "F")
"""How the modes of images of more than 8 bits a channel begin."""
_SHOWN = 3


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder of samples, one folder deep."""

    root: Path
    samples: tuple[Path, ...]
    others: tuple[Path, ...]
    unread: tuple[tuple[Path, str], ...]
    """Samples that cannot be opened, and why."""


def list_files(root: Path, seconds: float) -> FolderFiles:
    """Sort the files of a folder, and read the header of each image while there is time."""
    entries = [file for file in sorted(_visible(root)) if file.is_file()]
    for folder in sorted(_visible(root)):
        entries += sorted(file for file in _visible(folder) if file.is_file()) if folder.is_dir() else []
    samples = [file for file in entries if file.suffix.lower() in IMAGE_SUFFIXES | {".npy"}]
    deadline = time.monotonic() + seconds
    unread = []
    for file in samples:
        if time.monotonic() > deadline:
            break
        if reason := _reason(file):
            unread.append((file, reason))
    return FolderFiles(root, tuple(samples), tuple(item for item in entries if item not in set(samples)), tuple(unread))


def _visible(folder: Path) -> Iterator[Path]:
    return (item for item in folder.iterdir() if not item.name.startswith("."))


def _reason(file: Path) -> str:
    """Why an image cannot be read, judged by its header; empty: it may be readable."""
    from PIL import Image

    if file.suffix.lower() == ".npy":
        return ""
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(_WIDE):
                return f"an image with more than 8 bits a channel (mode {opened.mode})"
    except Exception as exc:
        return f"not a readable image: {' '.join(str(exc).split())}"
    return ""


def of_files(files: FolderFiles, origin: str) -> Iterator[Finding]:
    """Samples that cannot be read, images of other formats, and other files; one finding for those of one kind."""
    for reason in dict.fromkeys(_kind(reason) for _, reason in files.unread):
        alike = [file for file, other in files.unread if _kind(other) == reason]
        hint = "save them as .npy with the values that the model expects" if "8 bits" in reason else "replace them"
        error = DatasetError(f"{_files(len(alike))} cannot be read: {reason}: {_named(alike, files)}", where=origin)
        error.hint = hint
        yield finding_of(error, "data")
    counts = Counter(item.suffix.lower() for item in files.others if item.suffix.lower() in OTHER_IMAGES)
    for suffix, count in sorted(counts.items()):
        alike = [item for item in files.others if item.suffix.lower() == suffix]
        what = f"{_files(count)} in a format that edgec does not read, left out: {_named(alike, files)}"
        hint = f"save {'it' if count == 1 else 'them'} as .png or .jpg: magick mogrify -format png *{suffix}"
        yield warning("data", what, where=origin, hint=hint)
    rest = [item for item in files.others if item.suffix.lower() not in OTHER_IMAGES]
    if rest:
        what = f"{_files(len(rest))} of other kinds than images and .npy, left out: {_named(rest, files)}"
        yield warning("data", what, where=origin)
    for folder in sorted(item for item in _visible(files.root) if item.is_dir()):
        if not any(file.parent == folder for file in files.samples):
            yield warning("data", f'class folder "{folder.name}" holds no sample', where=origin)


def _kind(reason: str) -> str:
    return reason if reason.startswith("an image") else "not a readable image"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _named(files: Sequence[Path], among: FolderFiles) -> str:
    names = [str(file.relative_to(among.root)) for file in files[:_SHOWN]]
    return ", ".join(names) + (", ..." if len(files) > _SHOWN else "")


def readable(files: FolderFiles, folder: Path) -> Path:
    """The folder of samples, or `folder` filled with links to the readable ones when some cannot be read."""
    if not files.unread:
        return files.root
    bad = {file for file, _ in files.unread}
    for item in _visible(files.root):
        if item.is_dir():
            (folder / item.name).mkdir(parents=True)
    for file in (*files.samples, *files.others):
        if file not in bad:
            (folder / file.relative_to(files.root)).symlink_to(file.resolve())
    return folder
