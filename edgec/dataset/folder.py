"""Reader of folders of images or .npy files: one sub-folder a class, in sorted order; without them, no labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgec.dataset.source import LabelledRow, Request, Source, check_dtype, missing
from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def read_folder(request: Request) -> Source:
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
    found = [(file, None) for file in loose]
    labels: list[int] = []
    for label, folder in enumerate(classes):
        files, other = _files(folder)
        found += [(file, None) for file in files]
        labels += [label] * len(files)
        skipped += other
    files = [file for file, _ in found]

    def rows() -> Iterator[LabelledRow]:
        for file in files:
            yield {only.name: _read(file, only)}, None

    notes = [f"classes in order: {', '.join(item.name for item in classes)}"] if classes else []
    if skipped:
        notes.append(f"left out {len(skipped)} files that are neither images nor .npy, first {skipped[0].name}")
    return Source(
        rows,
        len(files),
        _stated_labels(request, len(files)) if request.spec.labels else np.array(labels, np.int64) if classes else None,
        place=lambda index: str(files[index]),
        notes=tuple(notes),
        classes=() if request.spec.labels else tuple(item.name for item in classes),
    )


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sample files of a folder and its other files, both sorted; hidden files are neither."""
    files = sorted(item for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
    samples = [item for item in files if item.suffix.lower() in IMAGE_SUFFIXES | {".npy"}]
    return samples, [item for item in files if item not in set(samples)]


def _stated_labels(request: Request, count: int) -> Array:
    path = request.path / str(request.spec.labels)
    try:
        labels: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise DatasetError(f"labels cannot be read: {exc}", where=str(path)) from exc
    check_dtype(path.name, labels.dtype, path)
    if labels.shape[:1] != (count,):
        raise DatasetError(f"labels have shape {labels.shape}, but there are {count} samples", where=str(path))
    return labels


def _read(file: Path, spec: TensorSpec) -> Array:
    if file.suffix.lower() == ".npy":
        try:
            array: Array = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as exc:
            raise DatasetError(f"cannot be read: {exc}", where=str(file)) from exc
        check_dtype(file.name, array.dtype, file)
        return array
    return _read_image(file, spec)


def _read_image(file: Path, spec: TensorSpec) -> Array:
    """The image upright, resized (bilinear, whole image) to the input's height and width: HWC, or CHW when gray."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width, channels = image_size(spec)
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise DatasetError(
                    f"is an image with more than 8 bits a channel (mode {opened.mode})",
                    where=str(file),
                    hint="save it as .npy with the values that the model expects",
                )
            image = ImageOps.exif_transpose(opened).convert("RGB" if channels == 3 else "L")
            resized = image.resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as exc:
        raise DatasetError(f"is not a readable image: {exc}", where=str(file)) from exc
    array = np.asarray(resized)
    return array.reshape(height, width, channels).reshape(_image_shape(spec, height, width, channels))


def _image_shape(spec: TensorSpec, height: int, width: int, channels: int) -> tuple[int, ...]:
    return spec.shape[1:] if channels == 1 else (height, width, channels)


def image_size(spec: TensorSpec) -> tuple[int, int, int]:
    """(height, width, channels) of an image input ``[N,C,H,W]``, ``[N,H,W,C]`` or ``[1,H,W]``, C being 1 or 3.

    Raises:
        DatasetError: the input is no image.
    """
    shape = spec.shape
    if len(shape) == 4:
        if shape[1] in (1, 3):
            return shape[2], shape[3], shape[1]
        if shape[3] in (1, 3):
            return shape[1], shape[2], shape[3]
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2], 1
    raise DatasetError(
        f'input "{spec.name}" of shape {list(shape)} is no image of 1 or 3 channels',
        hint="use .npy files, an .npz, or a Python entry file.py:function",
    )
