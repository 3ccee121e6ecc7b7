"""Sample data for the zoo's models: voiced speech that is made here, and crops of scikit-image's photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg", "coins.png", "retina.jpg")


def speech(random: np.random.Generator, seconds: float, rate: int = 16000) -> Floats:
    """A gliding pulse train through three moving formants, in syllables with pauses, over a noise floor.

    Args:
        random: source of pitch, formants and noise.
        seconds: length.
        rate: samples a second.

    Returns:
        ``round(seconds * rate)`` samples, most of them within -1 to 1.
    """
    count = round(seconds * rate)
    t = np.arange(count) / rate

    def swing(low: float, high: float) -> Any:
        return np.sin(2 * np.pi * random.uniform(low, high) * t + random.uniform(0, 6))

    pitch = random.uniform(90, 240) * np.exp(0.15 * swing(0.3, 1.2))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = [(random.uniform(*span), width) for span, width in (((300, 800), 90), ((900, 2200), 120))]
    formants.append((random.uniform(2300, 3200), 180))
    sweep = 1 + 0.25 * swing(1, 4)
    voice = np.zeros(count)
    for harmonic in range(1, 40):
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - centre * sweep) / width) ** 2) for centre, width in formants)
        voice += np.where(frequency < rate / 2, gain, 0) * np.sin(harmonic * phase)
    voice *= np.clip(swing(2, 5) + 0.3, 0, 1)
    voice *= random.uniform(0.1, 0.8) / (np.abs(voice).max() + 1e-9)
    return (voice + random.normal(0, random.uniform(1e-4, 2e-2), count)).astype(np.float32)


def frames(signal: Floats, length: int, step: int, count: int) -> Any:
    """The first `count` windows of a signal, Hann-weighted: shape ``[count, length]``."""
    return np.lib.stride_tricks.sliding_window_view(signal, length)[::step][:count] * np.hanning(length)


def photos(random: np.random.Generator, size: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Square crops of photos, scaled to `size`: shape ``[count, size, size, 3]``."""
    import skimage
    from PIL import Image

    folder = Path(skimage.__file__).parent / "data"
    images = [Image.open(folder / name).convert("RGB") for name in PHOTOS if (folder / name).exists()]
    crops = []
    for number in range(count):
        image = images[number % len(images)]
        side = int(min(image.size) * random.uniform(0.4, 1.0))
        left, top = random.integers(0, image.width - side + 1), random.integers(0, image.height - side + 1)
        box = (left, top, left + side, top + side)
        crops.append(np.asarray(image.crop(box).resize((size, size), Image.Resampling.BILINEAR)))
    return np.stack(crops)
