"""Model inputs as pictures for a page: a PNG or a curve, without outside references."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgec.model.spec import Array

SMALLEST = 96
"""Pixels of a picture's longer side, at least; small images are enlarged by whole numbers."""
LARGEST = 320
POINTS = 240
"""Of a curve."""
CURVE_HEIGHT = 60.0


@dataclass(frozen=True)
class Picture:
    """One input of one sample; exactly one of the two is not empty."""

    name: str
    png: str = ""
    """A ``data:`` address."""
    curve: str = ""
    """Points of an SVG polyline, in a box of `POINTS` times `CURVE_HEIGHT`."""
    note: str = ""


def pictures(inputs: Mapping[str, Array]) -> tuple[Picture, ...]:
    """What can be shown of a sample: images of 1 or 3 channels and other planes, and curves of signals.

    Values are stretched between the input's smallest and largest, which the note tells. Inputs of other shapes are
    left out.
    """
    return tuple(found for name, array in inputs.items() if (found := _picture(name, array)) is not None)


def _picture(name: str, array: Array) -> Picture | None:
    values = np.squeeze(np.asarray(array, np.float64))
    if not values.size or not np.isfinite(values).all():
        return None
    note = f"{name}: {' x '.join(map(str, array.shape))}, {values.min():.4g} to {values.max():.4g}"
    if values.ndim == 1 and values.size > 1 and array.dtype.kind == "f":
        return Picture(name, curve=_curve(values), note=note)
    plane = _plane(values)
    return None if plane is None else Picture(name, png=_png(plane), note=note)


def _plane(values: Array) -> Array | None:
    """(height, width) or (height, width, 3) of bytes; None: it is no image."""
    if values.ndim == 3:
        values = np.moveaxis(values, 0, -1) if values.shape[0] == 3 else values
        if values.shape[-1] != 3:
            return None
    elif values.ndim != 2:
        return None
    low, high = values.min(), values.max()
    stretched = (values - low) / (high - low) if high > low else np.zeros_like(values)
    plane: Array = np.round(255 * stretched).astype(np.uint8)
    return plane


def _png(plane: Array) -> str:
    from PIL import Image

    image, longest = Image.fromarray(plane), max(plane.shape[:2])
    if longest > LARGEST:
        image.thumbnail((LARGEST, LARGEST))
    elif (times := -(-SMALLEST // longest)) > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


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
