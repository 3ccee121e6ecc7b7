"""Model inputs as pictures: they show mistakes in colours, orientation and scale that metrics do not."""

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
POINTS = 240
"""Of a curve."""
CURVE_HEIGHT = 60.0


@dataclass(frozen=True)
class Picture:
    """One input of one sample; exactly one of image and curve is not empty."""

    name: str
    """Of the input."""
    caption: str
    source: str = ""
    """The PNG as a ``data:`` URL."""
    width: int = 0
    """Of the image as it is shown, in CSS pixels."""
    curve: str = ""
    """Points of an SVG polyline, in a box of `POINTS` times `CURVE_HEIGHT`."""


def pictures(sample: Mapping[str, Array], color: Color | None = None) -> tuple[Picture, ...]:
    """Images of 1 or 3 channels, and curves of signals; inputs of other shapes are left out.

    Values from the smallest to the largest of the tensor, over all channels, are shown as black to white. The same
    tensors give the same bytes.

    Args:
        sample: input name -> array of the input's shape; of an input that takes several entries the first is shown.
        color: order of the channels of image files, where it was stated.
    """
    return tuple(picture for name, array in sample.items() if (picture := _picture(name, array, color)) is not None)


def _picture(name: str, array: Array, color: Color | None) -> Picture | None:
    if not array.size or not np.isfinite(array).all():
        return None
    pixels = _pixels(array)
    if pixels is not None:
        return _image(name, pixels, color)
    signal = np.squeeze(array)
    if signal.ndim != 1 or array.dtype.kind != "f":
        return None
    caption = f"{signal.size} values, {signal.min():.4g} to {signal.max():.4g}"
    return Picture(name, caption, curve=_curve(np.asarray(signal, np.float64)))


def _pixels(array: Array) -> Array | None:
    """Height, width and channels of the first entry; None: it is not an image."""
    try:
        height, width, channels = image_size(TensorSpec(name="", shape=array.shape))
    except DatasetError:
        return None
    if min(height, width) < 2:  # a row of numbers
        return None
    first = np.asarray(array[0], np.float64)
    if array.ndim == 4 and array.shape[1] == channels:
        first = np.moveaxis(first, 0, -1)
    return first.reshape(height, width, channels)


def _image(name: str, pixels: Array, color: Color | None) -> Picture:
    from PIL import Image

    height, width, channels = pixels.shape
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
    source = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return Picture(name, caption, source=source, width=shown)


def _curve(values: Array) -> str:
    """Extremes of each stretch of a signal, so that short peaks show."""
    parts = np.array_split(values, min(POINTS // 2, values.size))
    ends = [value for part in parts for value in (part.min(), part.max())]
    low, high = min(ends), max(ends)
    scale = CURVE_HEIGHT / (high - low) if high > low else 0.0
    step = POINTS / len(ends)
    return " ".join(
        f"{place * step:.1f},{CURVE_HEIGHT - (value - low) * scale:.1f}" for place, value in enumerate(ends)
    )
