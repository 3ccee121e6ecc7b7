"""EfficientNet-Lite0 with real weights, on photos without labels: int8 must name what the float model names.

Its activations are ReLU6, its depthwise layers' channels have very different ranges and its padding is asymmetric:
stock recipes agree with float on 73 to 93 % of photos. Run by `make test-data`; needs only the `dev` extra.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from host_target import HOST

import edgec

pytestmark = pytest.mark.data

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("photos", HERE / "photos.py")
assert SPEC is not None
assert SPEC.loader is not None
PHOTOS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PHOTOS)

SAMPLES = 256
LEAST_AGREEMENT, LEAST_SQNR_DB = 0.96, 20.0


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Calibration and held-out photos."""
    found: tuple[Path, Path] = PHOTOS.write_photos(tmp_path_factory.mktemp("photos"), SAMPLES)
    return found


def test_photos_are_the_same_each_time_and_held_out(photos: tuple[Path, Path], tmp_path: Path) -> None:
    again = PHOTOS.write_photos(tmp_path, SAMPLES)
    for one, other in zip(photos, again, strict=True):
        images = np.load(one)["images"]
        assert (images.shape, images.dtype) == ((SAMPLES, 224, 224, 3), np.uint8)
        assert np.array_equal(images, np.load(other)["images"])
        assert len({image.tobytes() for image in images}) == SAMPLES
    assert set(PHOTOS.CALIBRATION_PHOTOS).isdisjoint(PHOTOS.HELD_OUT_PHOTOS)


@pytest.mark.parametrize("target", [f"{HOST}-int8", "qnnpack-int8"])
def test_int8_names_what_float_names(
    target: str, photos: tuple[Path, Path], project: Path, tell: Callable[..., None]
) -> None:
    shutil.copy(HERE / "efficientnet_lite0.py", project)
    bundle = edgec.build(
        str(project / "efficientnet_lite0.py:load"),
        target=target,
        calibration=str(photos[0]),
        evaluation=str(photos[1]),
        project=project,
        settings={
            "model.inputs": [{"name": "image", "shape": [1, 3, 224, 224]}],
            "preprocess.mean": [PHOTOS.MEAN],
            "preprocess.std": [PHOTOS.STD],
            "evaluation.metric": "agreement",
            "gates.min_agreement": LEAST_AGREEMENT,
            "gates.min_sqnr_db": LEAST_SQNR_DB,
            "build.out": str(project / "dist"),
        },
    )
    tell("efficientnet", target, bundle, {})
    assert list(_misses(bundle)) == []


def _misses(bundle: edgec.Bundle) -> Iterator[str]:
    """Everything that the bundle does not hold, one line each."""
    artifacts = [item.artifact for item in bundle.manifest.artifacts]
    if not bundle.manifest.complete or bundle.failures:
        yield f"not every artifact was built: {bundle.failures}"
    yield from (f"{item.file} is {item.precision}" for item in artifacts if item.precision != "int8")
    if {item.artifact for item in bundle.measurements} != {item.file for item in artifacts}:
        yield "not every artifact was measured"
    for item in bundle.measurements:
        told = f"{item.artifact} in {item.runtime}"
        decibel = item.sqnr_db()
        if item.failure or item.agreement is None or decibel is None:
            yield f"{told}: not measured: {item.failure}"
            continue
        if item.samples != SAMPLES:
            yield f"{told}: measured on {item.samples} samples"
        if item.agreement < LEAST_AGREEMENT:
            yield f"{told}: agrees on {100 * item.agreement:.1f} %"
        if decibel < LEAST_SQNR_DB:
            yield f"{told}: {decibel:.1f} dB"
