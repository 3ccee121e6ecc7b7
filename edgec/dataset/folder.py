"""Reader of folders of images or .npy files: one sub-folder a class, in sorted order; without them, no labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgec.dataset.image import IMAGE_SUFFIXES, ReadImage, read_image
from edgec.dataset.sample_source import LabelledRow, ReadRequest, SampleSource, check_dtype, missing
from edgec.errors import DatasetError
from edgec.model.spec import Array


def read_folder(request: ReadRequest) -> SampleSource:
    """Samples in the files of a folder; the label is the index of the sub-folder in sorted order."""
    only = request.only_input("a folder")
    root = request.path
    if not root.exists():
        raise missing(root)
    classes = sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    loose, skipped = _files(root)
    if classes and loose:
        raise DatasetError(
            f"has class folders and also {len(loose)} sample files beside them, first {loose[0].name}",
            where=str(root),
            hint="move the files into a class folder, or out of this folder",
        )
    files = list(loose)
    labels: list[int] = []
    for label, folder in enumerate(classes):
        members, others = _files(folder)
        files += members
        labels += [label] * len(members)
        skipped += others

    def image(file: Path) -> ReadImage:
        return read_image(file, only, request.preprocess)

    def rows() -> Iterator[LabelledRow]:
        for file in files:
            yield {only.name: _read_array(file) if _is_array(file) else image(file).array}, None

    notes = [f"classes in order: {', '.join(item.name for item in classes)}"] if classes else []
    if skipped:
        notes.append(f"left out {len(skipped)} files that are neither images nor .npy, first {skipped[0].name}")
    return SampleSource(
        rows,
        len(files),
        _stated_labels(request, len(files)) if request.spec.labels else np.array(labels, np.int64) if classes else None,
        place=lambda index: str(files[index]),
        is_image=lambda index: not _is_array(files[index]),
        steps=lambda index: () if _is_array(files[index]) else image(files[index]).steps,
        notes=tuple(notes),
        classes=() if request.spec.labels else tuple(item.name for item in classes),
    )


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sample files of a folder and its other files, both sorted; hidden files are neither."""
    files = sorted(item for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
    samples = [item for item in files if item.suffix.lower() in IMAGE_SUFFIXES | {".npy"}]
    return samples, [item for item in files if item not in set(samples)]


def _stated_labels(request: ReadRequest, count: int) -> Array:
    path = request.path / str(request.spec.labels)
    try:
        labels: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise DatasetError(f"labels cannot be read: {exc}", where=str(path)) from exc
    check_dtype(path.name, labels.dtype, path)
    if labels.shape[:1] != (count,):
        raise DatasetError(f"labels have shape {labels.shape}, but there are {count} samples", where=str(path))
    return labels


def _is_array(file: Path) -> bool:
    return file.suffix.lower() == ".npy"


def _read_array(file: Path) -> Array:
    try:
        array: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise DatasetError(f"cannot be read: {exc}", where=str(file)) from exc
    check_dtype(file.name, array.dtype, file)
    return array
