"""Findings about samples: each set by itself, bad samples counted, good ones checked all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.check import small_sets
from edgec.errors import DataLeakError, DatasetError, LabelsError, WeakFloatError

from .conftest import Look, of_kind, write_net

Change = Callable[..., None]


def test_values_that_are_not_finite_are_counted(folder: Path, look: Look, change: Change) -> None:
    x = np.load(folder / "e.npz")["image"]
    x[[3, 7], 0, 0, 0] = np.nan
    x[9, 0, 0, :2] = np.inf
    change(folder / "e.npz", image=x)
    (wrong,) = of_kind(look(), "data")
    assert wrong.where == "e.npz: sample 3"
    assert "NaN or infinite (and 2 more of 60 read)" in wrong.what
    assert wrong.exit_code == DatasetError.exit_code


def test_a_bad_sample_that_is_not_drawn_is_a_warning(folder: Path, look: Look, change: Change) -> None:
    x = np.load(folder / "c.npz")["image"]
    x[:20] = np.nan
    change(folder / "c.npz", image=x, y=None)
    checked = look(given={("calibration", "samples"): 1, ("build", "seed"): 1})
    by_draw = {item.severity: item for item in checked.findings if item.kind == "data"}
    other = look(given={("calibration", "samples"): 1, ("build", "seed"): 2})
    by_draw |= {item.severity: item for item in other.findings if item.kind == "data"}
    assert set(by_draw) == {"error", "warning"}
    assert "draw no such sample" in by_draw["warning"].what


def test_shapes_and_dtypes_that_do_not_fit(folder: Path, look: Look, change: Change) -> None:
    change(folder / "c.npz", image=np.zeros((40, 3, 9, 9), np.float32))
    change(folder / "e.npz", image=np.zeros((60, 3, 8, 8), np.uint8))
    wrong = of_kind(look(), "data")
    assert ["does not fit input" in item.what for item in wrong] == [True, False]
    assert "no scaling is stated" in wrong[1].what
    assert "divide = 255" in wrong[1].hint


def test_data_is_looked_at_though_the_model_cannot_be(folder: Path, look: Look, change: Change) -> None:
    (folder / "net.onnx").write_bytes(b"nothing")
    x = np.load(folder / "c.npz")["image"]
    x[5] = np.nan
    change(folder / "c.npz", image=x, y=np.zeros(40, np.int64))
    (folder / "e.npz").rename(folder / "ee.npz")
    checked = look()
    assert {item.kind for item in checked.findings if item.severity == "error"} == {"model", "data"}
    assert [item.where for item in of_kind(checked, "data")] == ["c.npz: sample 5", str(folder / "e.npz")]
    assert "one class" in of_kind(checked, "small-set", "warning")[0].what


@pytest.mark.parametrize(("shared", "kind"), [(20, "error"), (0, "")])
def test_samples_in_both_sets(folder: Path, look: Look, change: Change, shared: int, kind: str) -> None:
    one, other = np.load(folder / "c.npz"), np.load(folder / "e.npz")
    x = one["image"].copy()
    x[:shared] = other["image"][10 : 10 + shared]
    change(folder / "c.npz", image=x)
    checked = look()
    assert [item.severity for item in checked.findings if item.kind == "leak"] == ([kind] if kind else [])
    if kind:
        (wrong,) = of_kind(checked, "leak")
        assert wrong.exit_code == DataLeakError.exit_code
        assert "20 of 40 calibration samples" in wrong.what
        assert "0 = 10, 1 = 11" in wrong.what


def test_labels_that_do_not_fit(folder: Path, look: Look, change: Change) -> None:
    change(folder / "e.npz", y=np.arange(60) % 5)
    (wrong,) = of_kind(look(), "labels")
    assert "labels go from 0 to 4, but the output has 4 classes" in wrong.what
    assert wrong.exit_code == LabelsError.exit_code
    (folder / "net.onnx").unlink()
    assert not of_kind(look(), "labels")
    change(folder / "e.npz", y=np.arange(60) - 1)
    (wrong,) = of_kind(look(), "labels")
    assert "labels go from -1 to 58" in wrong.what


def test_labels_of_another_number_hide_no_samples(folder: Path, look: Look) -> None:
    x = np.load(folder / "e.npz")["image"]
    x[4] = np.inf
    np.save(folder / "e.npy", x)
    np.save(folder / "y.npy", np.zeros(59, np.int64))
    flags = {("evaluation", "data"): str(folder / "e.npy"), ("evaluation", "labels"): "y.npy"}
    wrong = of_kind(look(given=flags), "data")
    assert ["labels" in item.what for item in wrong] == [True, False]
    assert "NaN or infinite" in wrong[1].what


def test_an_empty_set(folder: Path, look: Look, change: Change) -> None:
    change(folder / "e.npz", image=np.zeros((0, 3, 8, 8), np.float32), y=np.zeros(0, np.int64))
    (wrong,) = of_kind(look(), "data")
    assert (wrong.where, wrong.what) == ("e.npz", "the evaluation data is empty")


def test_missing_labels(folder: Path, look: Look, change: Change) -> None:
    change(folder / "e.npz", y=None)
    (doubt,) = of_kind(look(), "labels", "warning")
    assert "no labels" in doubt.what
    (wrong,) = of_kind(look(given={("evaluation", "metric"): "top1"}), "labels")
    assert "no labels" in wrong.what


def test_small_sets(folder: Path, look: Look, change: Change) -> None:
    for name, count in (("c", 31), ("e", 49)):
        data = np.load(folder / f"{name}.npz")
        change(folder / f"{name}.npz", image=data["image"][:count], y=data["y"][:count])
    few = [item.what for item in of_kind(look(), "small-set", "warning")]
    assert few[0].startswith("31 calibration samples are few")
    assert few[1].startswith(
        "49 evaluation samples are few: 44 of 49 right would mean 78 to 96 % (95 % Wilson interval"
    )
    assert not list(small_sets.few_to_calibrate(32, "c"))
    assert not list(small_sets.few_to_evaluate(50, "e"))


def test_calibration_of_constants(folder: Path, look: Look, change: Change) -> None:
    change(folder / "c.npz", image=np.ones((40, 3, 8, 8), np.float32))
    assert "all 40 calibration samples are equal" in [item.what for item in of_kind(look(), "small-set", "warning")]
    checked = list(small_sets.constants([b"a", b"b"], ["state"], {"image": (0.0, 0.0), "x": (0.0, 1.0)}, "c"))
    assert [item.what for item in checked] == [
        'input "state" never changes in the calibration samples',
        'input "image" never changes in the calibration samples, 0 everywhere',
    ]


def test_an_image_folder(folder: Path, look: Look) -> None:
    random = np.random.default_rng(0)
    for label in ("cat", "dog", "owl", "rat"):
        (folder / "photos" / label).mkdir(parents=True)
        for k in range(8):
            Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"photos/{label}/{k}.png")
    Image.fromarray(random.integers(0, 60000, (8, 8), np.uint16)).save(folder / "photos/cat/deep.tif")
    (folder / "photos/dog/broken.jpg").write_bytes(b"\xff\xd8nothing")
    for name in ("a.HEIC", "b.heic", "c.avif", "Thumbs.db"):
        (folder / "photos" / "owl" / name).write_bytes(b"x")
    (folder / "photos" / "yak").mkdir()
    checked = look(given={("calibration", "data"): str(folder / "photos"), ("preprocess", "divide"): 255})
    wrong, left_out = of_kind(checked, "data"), of_kind(checked, "data", "warning")
    assert ["more than 8 bits" in item.what for item in wrong] == [True, False]
    assert "cat/deep.tif" in wrong[0].what
    assert "dog/broken.jpg" in wrong[1].what
    assert [item.what.partition(":")[0] for item in left_out] == [
        "1 file in a format that edgec does not read, left out",
        "2 files in a format that edgec does not read, left out",
        "1 file of other kinds than images and .npy, left out",
        'class folder "yak" holds no sample',
    ]
    assert "*.heic" in left_out[1].hint
    assert not of_kind(checked, "small-set", "warning")  # the 32 others were read


def test_a_float_model_at_chance(folder: Path, look: Look, change: Change) -> None:
    y = np.load(folder / "e.npz")["y"]
    change(folder / "e.npz", y=(y + 1) % 4)
    (wrong,) = of_kind(look(), "accuracy")
    assert "top-1 on the evaluation samples is 0.0 % (0 of 60" in wrong.what
    assert wrong.exit_code == WeakFloatError.exit_code
    (allowed,) = of_kind(look(given={("build", "allow_weak_float"): True}), "accuracy", "warning")
    assert allowed.what == wrong.what


def test_an_output_that_is_nan(folder: Path, look: Look) -> None:
    from onnx import helper

    from .conftest import NODES

    write_net(folder / "net.onnx", [*NODES, helper.make_node("Log", ["scores"], ["logs"], name="log")], name="logs")
    assert any("is NaN" in item.what for item in of_kind(look(), "model"))


def test_what_time_does_not_suffice_for(folder: Path, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.check.run.SECONDS_A_SET", 0.0)
    monkeypatch.setattr("edgec.check.run.SECONDS_OF_MODEL", 0.0)
    checked = look()
    partly = "only the first 1 of 40 calibration samples and the first 1 of 60 evaluation samples were read"
    assert (checked.looked_at, checked.samples_run) == (partly, 1)
    assert not of_kind(checked, "small-set", "warning")
    few = look(given={("calibration", "samples"): 20})  # how many are drawn is known without reading them
    assert [item.what.partition(" are")[0] for item in of_kind(few, "small-set", "warning")] == [
        "20 calibration samples"
    ]


def test_python_entries(folder: Path, look: Look) -> None:
    (folder / "data.py").write_text(
        "import numpy as np\n\ndef samples():\n    for k in range(40):\n"
        "        yield np.full((3, 8, 8), k, np.float32), k % 4\n\ndef broken():\n    raise KeyError('no')\n"
    )
    entry = str(folder / "data.py")
    assert not of_kind(look(given={("calibration", "data"): f"{entry}:samples"}), "data")
    (wrong,) = of_kind(look(given={("calibration", "data"): f"{entry}:broken"}), "data")
    assert "data.py:8" in wrong.where
