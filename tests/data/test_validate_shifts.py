"""`edgec validate` on data that shifts step by step: drift shows it first, and what it suggests mends int8.

Run by `make test-data`, on one half of each evaluation set for the bundle and the other as new samples.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.model.spec import Array
from edgec.project.spec import DataSpec
from edgec.validate.records import RunResult, Validation
from edgec.validate.sides import read_sides
from edgec.validate.validate import Options, validate

pytestmark = pytest.mark.data

STRENGTHS = {"gain": (1.1, 1.25, 1.5, 2.0, 4.0), "noise": (0.05, 0.1, 0.2, 0.4), "inverted": (1.0,)}
"""Factors; standard deviations of the noise as a part of the data's; and all at once."""
FOUND = 5.0
"""Points of drift that `--fail-on drift=5%` finds."""


NEAR = 5.0
"""Percent of samples that float and int8 take for other classes, up to which int8 has lost nothing."""


@dataclass(frozen=True)
class Real:
    """A trained model and its data."""

    name: str
    folder: str
    path: str
    files: tuple[str, ...]
    calibration: str
    evaluation: str
    input: str
    fall: float
    """Points of accuracy that count as lost: 1, or more where few samples are there."""
    settings: dict[str, Any]


MODELS = (
    Real(
        "kws", "mlperf-tiny-kws", "kws_dscnn.onnx", ("kws_dscnn.onnx",), "kws_calibration_200.npz", "kws_eval_400.npz",
        "input", 2.0, {},
    ),
    Real(
        "fashion", "fashion-mnist", "small_cnn.py:SmallCNN", ("small_cnn.py", "small_cnn_bn.pt"),
        "fashion_mnist_train.npz", "fashion_mnist_test.npz", "x", 1.0,
        {
            "model.arguments": {"batch_norm": True},
            "model.weights": "small_cnn_bn.pt",
            "model.inputs": [{"name": "x", "shape": [1, 1, 28, 28]}],
            "preprocess.divide": 255.0,
        },
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model with its bundle, and samples that it has not seen."""

    real: Real
    root: Path
    bundle: Path
    x: Array
    y: Array

    def shifted(self, kind: str, strength: float, part: slice = slice(None)) -> Path:
        """New samples, shifted, as an .npz."""
        x = self.x.astype(np.float32)
        if kind == "gain":
            x = x * np.float32(strength)
        elif kind == "noise":
            x = x + np.random.default_rng(0).normal(0, strength * x.std(), x.shape).astype(np.float32)
        elif kind == "inverted":
            x = x.min() + x.max() - x
        file = self.root / f"{kind}-{strength:g}-{part.start or 0}.npz"
        np.savez(file, x=x[part], y=self.y[part])
        return file

    def validated(self, file: Path, bundle: Path | None = None, **options: Any) -> Validation:
        """What `edgec validate` finds."""
        data = DataSpec(data=str(file), inputs={self.real.input: "x"})
        return validate(
            read_sides([bundle or self.bundle]), data, Options(**options), self.root / "validate.log"
        ).validation

    def build(self, out: str, **more: Any) -> Path:
        """Its int8 bundle with a float twin, for ONNX Runtime alone."""
        folder, settings = self.root, {**self.real.settings}
        if "model.weights" in settings:
            settings["model.weights"] = str(folder / settings["model.weights"])
        arrays = {self.real.input: "x"}
        return edgec.build(
            str(folder / self.real.path), target="one-int8", project=folder,
            calibration=str(folder / "calibration.npz"), evaluation=str(folder / "evaluation.npz"),
            settings={
                **settings, "calibration.inputs": arrays, "evaluation.inputs": arrays, "bundle.float_twin": True,
                "build.out": str(folder / out), **more,
            },
        ).path  # fmt: skip


@pytest.fixture(scope="module", params=MODELS, ids=lambda real: real.name)
def case(request: pytest.FixtureRequest, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    real: Real = request.param
    root = tmp_path_factory.mktemp(real.name)
    (root / "targets").mkdir()
    (root / "targets" / "one-int8.toml").write_text('extends = "x86-64-int8"\n[[emit]]\nbackend = "onnxruntime"\n')
    source = data_folder / real.folder
    for name in real.files:
        shutil.copyfile(source / name, root / name)
    known = np.load(source / real.evaluation)
    x, y = known["x"][:4000], known["y"][:4000]
    mixed = np.random.default_rng(1).permutation(len(x))
    seen, new = np.array_split(mixed, 2)
    np.savez(root / "evaluation.npz", x=x[seen], y=y[seen])
    calibration = np.load(source / real.calibration)
    np.savez(root / "calibration.npz", x=calibration["x"][:5000], y=calibration["y"][:5000])
    case = Case(real, root, Path(), x[new], y[new])
    return Case(real, root, case.build("dist"), x[new], y[new])


def pair(validation: Validation) -> tuple[RunResult, RunResult]:
    """The float model and the int8 artifact."""
    twin, int8 = validation.runs
    assert (twin.role, int8.role) == ("float", "artifact")
    return twin, int8


def drift(validation: Validation) -> float:
    """Points of drift of the one artifact."""
    points = validation.drift[0].points
    assert points is not None
    return points


def told(case: Case, words: str, validation: Validation) -> None:
    twin, int8 = pair(validation)
    assert int8.agreement is not None
    print(
        f"{case.real.name:<8}{words:<16} float {twin.value:6.2f}  int8 {int8.value:6.2f}  agree "
        f"{100 * int8.agreement.value:6.2f}  SQNR {int8.fidelity[0].sqnr_db:5.1f}  drift {drift(validation):5.1f}"
    )


@pytest.mark.parametrize("kind", STRENGTHS)
def test_drift_shows_a_shift_before_accuracy_falls(case: Case, kind: str) -> None:
    plain = case.validated(case.shifted("none", 0))
    told(case, "unshifted", plain)
    assert drift(plain) < FOUND
    before = pair(plain)
    for strength in STRENGTHS[kind]:
        now = case.validated(case.shifted(kind, strength))
        told(case, f"{kind} {strength:g}", now)
        falls = [old.value - new.value for old, new in zip(before, pair(now), strict=True) if old.value and new.value]
        assert drift(now) > FOUND or max(falls) < case.real.fall, f"{kind} {strength}: {falls} and no drift"
    assert drift(now) > FOUND


@pytest.mark.parametrize(("kind", "strength"), [("gain", 4.0), ("noise", 0.2)])
def test_suggested_samples_win_back_half_of_what_int8_lost(case: Case, kind: str, strength: float) -> None:
    one, other = (case.shifted(kind, strength, slice(start, None, 2)) for start in (0, 1))
    file = case.root / f"more-{kind}.npz"
    before = case.validated(other)
    case.validated(one, suggest=file)
    rebuilt = case.build(f"dist-{kind}", **{"calibration.more": [str(file)]})
    after = case.validated(other, rebuilt)
    told(case, f"{kind} {strength:g}, before", before)
    told(case, f"{kind} {strength:g}, after", after)
    lost, left = (twin.value - int8.value for twin, int8 in map(pair, (before, after)) if twin.value and int8.value)
    apart = [100 * (1 - int8.agreement.value) for _, int8 in map(pair, (before, after)) if int8.agreement]
    if lost >= 1.0:
        assert left <= lost / 2
    elif apart[0] > NEAR:
        assert apart[1] <= apart[0] / 2
    else:
        print(f"{case.real.name:<8}{kind} {strength:g}: int8 has lost nothing there")
