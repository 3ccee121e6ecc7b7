"""A tensor that a model was fed, as a picture: what no figure tells of colours, orientation and scale."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgec.dataset.image import image_size
from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import Color

LONGEST = 320
"""Pixels of the longer side; larger tensors are shown smaller."""
SHORTEST = 96
"""Smaller ones are shown larger by the browser, pixel by pixel."""


@dataclass(frozen=True)
class Picture:
    """One input of one sample."""

    name: str
    """Of the input."""
    source: str
    """The PNG as a ``data:`` URL."""
    width: int
    """As it is shown, in CSS pixels."""
    caption: str


def pictures(sample: Mapping[str, Array], inputs: tuple[TensorSpec, ...], color: Color | None) -> tuple[Picture, ...]:
    """The inputs of a sample that are images of 1 or 3 channels; the same tensors give the same bytes.

    Values from the smallest to the largest of the tensor, over all channels, are shown as black to white.

    Args:
        sample: input name -> array of the input's shape.
        inputs: of the model; of one that takes several entries at once the first is shown.
        color: of the image files, where it was stated.
    """
    found = (_picture(sample[item.name], item, color) for item in inputs)
    return tuple(item for item in found if item is not None)


def _picture(array: Array, spec: TensorSpec, color: Color | None) -> Picture | None:
    from PIL import Image

    try:
        height, width, channels = image_size(spec)
    except DatasetError:
        return None
    if min(height, width) < 2:  # a row of numbers
        return None
    first = np.asarray(array[0], np.float64)
    if len(spec.shape) == 4 and spec.shape[1] == channels:
        first = np.moveaxis(first, 0, -1)
    pixels = first.reshape(height, width, channels)
    low, high = float(pixels.min()), float(pixels.max())
    grays = np.full(pixels.shape, 127.0) if high == low else (pixels - low) * (255 / (high - low))
    codes = np.rint(grays).astype(np.uint8)
    caption = f"{low:.4g} (black) to {high:.4g} (white)"
    if channels == 3:
        caption = f"channels shown as {'blue, green, red' if color == 'bgr' else 'red, green, blue'}; {caption}"
    image = Image.fromarray(codes[:, :, ::-1] if color == "bgr" else codes.squeeze(2) if channels == 1 else codes)
    if max(height, width) > LONGEST:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
        caption += f"; {height}x{width}, shown smaller"
    png = io.BytesIO()
    image.save(png, "PNG")
    shown = image.width * max(1, -(-SHORTEST // max(image.size)))
    return Picture(spec.name, "data:image/png;base64," + base64.b64encode(png.getvalue()).decode(), shown, caption)
