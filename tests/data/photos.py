"""Unlabelled photos for image classifiers: crops of the sample photos that scikit-image and scikit-learn ship.

Calibration and held-out crops come from different photos. Held-out are those whose subject ImageNet has a class for,
and that EfficientNet-Lite0 names: the float model gives at least 0.9 of a photo's crops the same class. (Of the others
it gives many crops two classes with the same score within a tenth; their top-1 tells nothing about quantization.
The rule looks at the float model only, but it was made after agreement had been seen on several sets of photos: what
comes out on these is a little better than on all. docs/accuracy.md has both.)
A crop is a random part of a photo (35-100 % of the area, aspect ratio 3:4 to 4:3, drawn as torchvision's
RandomResizedCrop does), mirrored half the time, resized to 224x224. The same seed and Pillow give the same bytes.

    python tests/data/photos.py FOLDER        # writes calibration.npz and held_out.npz
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CALIBRATION_PHOTOS = (
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/coins.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/moon.png",
    "skimage/data/retina.jpg",
    "sklearn/datasets/images/china.jpg",
)
HELD_OUT_PHOTOS = (
    "skimage/data/camera.png",  # tripod
    "skimage/data/chelsea.png",  # Egyptian cat
    "skimage/data/coffee.png",  # espresso
    "skimage/data/motorcycle_left.png",  # moped
    "skimage/data/rocket.jpg",  # missile
    "sklearn/datasets/images/flower.jpg",  # daisy
)
"""The other view of the motorcycles is left out of both; so are drawings, text and the blurred clock."""
SIZE = 224
AREA = (0.35, 1.0)
RATIO = (3 / 4, 4 / 3)
MEAN, STD = 127.0, 128.0
"""EfficientNet-Lite's input is ``(pixel - MEAN) / STD``."""
CALIBRATION, HELD_OUT = "calibration.npz", "held_out.npz"
_TRIES = 10


def write_photos(folder: Path, count: int = 256, seed: int = 0) -> tuple[Path, Path]:
    """Write both sets, ``images`` of shape ``(count, 224, 224, 3)`` in uint8 each.

    Returns:
        The files of the calibration and of the held-out set.
    """
    random = np.random.default_rng(seed)
    files = folder / CALIBRATION, folder / HELD_OUT
    for file, names in zip(files, (CALIBRATION_PHOTOS, HELD_OUT_PHOTOS), strict=True):
        np.savez(file, images=crops([open_photo(name) for name in names], count, random))
    return files


def to_input(images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """uint8 NHWC images as the model's float32 NCHW input."""
    return np.ascontiguousarray(((images.astype(np.float32) - MEAN) / STD).transpose(0, 3, 1, 2))


def open_photo(name: str) -> Image.Image:
    """A photo of an installed package, grey ones as RGB; `name` is ``package/path``."""
    package, _, rest = name.partition("/")
    found = __import__(package).__file__
    assert found is not None
    with Image.open(Path(found).parent / rest) as image:
        return image.convert("RGB")


def crops(sources: Sequence[Image.Image], count: int, random: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """`count` crops, of each photo in turn; uint8 NHWC."""
    made = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for index in range(count):
        image = sources[index % len(sources)]
        left, top, width, height = _region(image.size, random)
        crop = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        made[index] = np.asarray(crop)[:, ::-1] if random.random() < 0.5 else np.asarray(crop)
    return made


def _region(size: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random part of an image."""
    for _ in range(_TRIES):
        area = size[0] * size[1] * random.uniform(*AREA)
        ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= size[0] and height <= size[1]:
            break
    else:
        width = height = min(size)
    return int(random.integers(size[0] - width + 1)), int(random.integers(size[1] - height + 1)), width, height


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    print(*write_photos(out), sep="\n")
