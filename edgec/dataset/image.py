"""Image files as arrays of the input's size and colours, and what was done to them in words.

Nothing is resized unless ``[preprocess] resize`` says how. Sizes are height x width, like shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import Color, Preprocess

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
PAD = 114
"""Default value of the border of ``fit``: the gray of YOLO's letterbox, near the mean of photos."""
_MODES = {"L": "gray"}
"""Names of Pillow's modes in messages, where they differ."""


@dataclass(frozen=True)
class ReadImage:
    """An image as it is fed, before values are scaled."""

    array: Array
    """uint8: HWC, or the input's shape without its first axis when it has one channel."""
    steps: tuple[str, ...]
    """Its form in the file, and each change: ``48x64 RGB``, ``center crop 64x64``."""


@dataclass(frozen=True)
class Placement:
    """Size and place of an image in an input; heights and widths in pixels."""

    resized: tuple[int, int]
    """Size of the whole image after resizing."""
    offset: tuple[int, int]
    """Where its top left corner then is in the input: above 0 with a border, below 0 where it is cut."""


def read_image(file: Path, spec: TensorSpec, preprocess: Preprocess) -> ReadImage:
    """The image in `file`, upright, in the colours and the size that `spec` and `preprocess` ask for.

    Args:
        file: of a kind in `IMAGE_SUFFIXES`.
        spec: the model input that takes the image.
        preprocess: states size and colours.

    Raises:
        DatasetError: the input or the file is not an image, or their sizes differ and ``[preprocess]`` has no resize.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width, channels = image_size(spec)
    color = color_of(spec, preprocess)
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise DatasetError(
                    f"is an image with more than 8 bits a channel (mode {opened.mode})",
                    where=str(file),
                    hint="save it as .npy with the values that the model expects",
                )
            upright = ImageOps.exif_transpose(opened)
            steps = [f"{opened.height}x{opened.width} {_MODES.get(opened.mode, opened.mode)}"]
            if upright.size != opened.size:
                steps.append(f"turned upright {upright.height}x{upright.width}")
            image = upright.convert("L" if color == "gray" else "RGB")
            if color != _MODES.get(opened.mode, opened.mode).lower():
                steps.append("gray" if color == "gray" else color.upper())
            sized = _to_size(image, height, width, spec, preprocess, file)
            if sized is not image:
                steps.append(_resize_step(preprocess, height, width))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as exc:
        raise DatasetError(f"is not a readable image: {exc}", where=str(file)) from exc
    array = np.asarray(sized).reshape(height, width, channels)
    if color == "bgr":
        array = array[:, :, ::-1]
    return ReadImage(array.reshape(spec.shape[1:]) if channels == 1 else array, tuple(steps))


def image_size(spec: TensorSpec) -> tuple[int, int, int]:
    """(height, width, channels) of an image input ``[N,C,H,W]``, ``[N,H,W,C]`` or ``[1,H,W]``, C being 1 or 3.

    Raises:
        DatasetError: the input is not an image.
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
        f'input "{spec.name}" of shape {list(shape)} is not an image of 1 or 3 channels',
        hint="use .npy files, an .npz, or a Python entry file.py:function",
    )


def color_of(spec: TensorSpec, preprocess: Preprocess) -> Color:
    """The channels of an image input, in order.

    Raises:
        DatasetError: the input is not an image, or its number of channels differs from that of the stated colours.
    """
    channels = image_size(spec)[2]
    if preprocess.color is None:
        return "gray" if channels == 1 else "rgb"
    if (preprocess.color == "gray") != (channels == 1):
        fitting = '"gray"' if channels == 1 else '"rgb" or "bgr"'
        raise DatasetError(
            f'[preprocess] color = "{preprocess.color}" does not fit input "{spec.name}" of shape {list(spec.shape)}, '
            f"which has {channels} channel{'s' if channels > 1 else ''}",
            hint=f"[preprocess] color = {fitting}, or leave the key out",
        )
    return preprocess.color


def place(size: tuple[int, int], wanted: tuple[int, int], preprocess: Preprocess) -> Placement:
    """Where an image of `size` goes in an input of size `wanted`, both (height, width).

    ``center-crop`` gives the sizes and corners of torchvision's ``Resize`` and ``CenterCrop``; ``fit`` those of YOLO's
    letterbox.

    Args:
        size: of the image, in pixels.
        wanted: of the input, in pixels.
        preprocess: states how to resize.

    Raises:
        DatasetError: ``resize_to`` leaves less than the input takes.
    """
    (height, width), (rows, columns) = size, wanted
    if preprocess.resize == "fit":
        scale = min(rows / height, columns / width)
        resized = (max(1, round(height * scale)), max(1, round(width * scale)))
        return Placement(resized, (round((rows - resized[0]) / 2 - 0.1), round((columns - resized[1]) / 2 - 0.1)))
    if preprocess.resize != "center-crop":
        return Placement(wanted, (0, 0))
    if preprocess.resize_to is not None:
        short = preprocess.resize_to
        resized = (short, short * width // height) if height <= width else (short * height // width, short)
        if resized[0] < rows or resized[1] < columns:
            raise DatasetError(
                f"is {resized[0]}x{resized[1]} (height x width) after resize_to = {short}, which is less than the "
                f"input's {rows}x{columns}",
                hint="state a larger [preprocess] resize_to, or leave it out",
            )
    elif rows * width <= columns * height:  # its width is the first to be as the input's
        resized = (columns * height // width, columns)
    else:
        resized = (rows, rows * width // height)
    return Placement(resized, (-round((resized[0] - rows) / 2), -round((resized[1] - columns) / 2)))


def _to_size(image: Image, height: int, width: int, spec: TensorSpec, preprocess: Preprocess, file: Path) -> Image:
    """`image` itself where it is of that size and nothing says more."""
    from PIL import Image as Images

    size = (image.height, image.width)
    if size == (height, width) and preprocess.resize_to is None:
        return image
    if preprocess.resize is None:
        raise _other_size(size, (height, width), spec, file)
    try:
        placement = place(size, (height, width), preprocess)
    except DatasetError as error:
        error.where = str(file)
        raise
    method = Images.Resampling[(preprocess.interpolation or "bilinear").upper()]
    rows, columns = placement.resized
    resized = image if size == placement.resized else image.resize((columns, rows), method)
    if placement.resized == (height, width):
        return resized
    pad = PAD if preprocess.pad is None else preprocess.pad
    canvas = Images.new(image.mode, (width, height), pad if image.mode == "L" else (pad, pad, pad))
    canvas.paste(resized, (placement.offset[1], placement.offset[0]))
    return canvas


def _other_size(size: tuple[int, int], wanted: tuple[int, int], spec: TensorSpec, file: Path) -> DatasetError:
    actual, expected = f"{size[0]}x{size[1]}", f"{wanted[0]}x{wanted[1]}"
    line = (
        'add to [preprocess]: resize = "center-crop", as most classifiers are trained '
        '(or "fit": the whole image with a border; "exact": stretched)'
    )
    if size == (wanted[1], wanted[0]):
        line = f"height and width may be swapped in [[model.inputs]]; if not, {line}"
    return DatasetError(
        f'is {actual} (height x width), but input "{spec.name}" takes {expected}, and nothing says how to resize it',
        where=str(file),
        hint=line,
    )


def _resize_step(preprocess: Preprocess, height: int, width: int) -> str:
    name = {"center-crop": "center crop", "fit": "fit", "exact": "stretch to"}[preprocess.resize or "exact"]
    details: list[str] = [preprocess.interpolation] if preprocess.interpolation else []
    details += [f"shorter side {preprocess.resize_to}"] if preprocess.resize_to else []
    details += [f"border {PAD if preprocess.pad is None else preprocess.pad}"] if preprocess.resize == "fit" else []
    return f"{name} {height}x{width}" + (f" ({', '.join(details)})" if details else "")
