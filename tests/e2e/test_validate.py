"""`edgec validate` on a real bundle: its own evaluation set, shifted ones, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from host_target import HOST

from edgec.bundle.check import read_bundle
from edgec.errors import BundleError, DatasetError, GateError, LabelsError, UsageError

from .command import Run, edgec, edgec_here

TARGET = f"{HOST}-int8"
FORMATS = ("model.onnx", "model.fbgemm.pt", "model.tflite")


@pytest.fixture(scope="session")
def twin_bundle(trained: Path) -> Path:
    """The digits bundle for this machine, all formats, with its float twin; for reading only."""
    out = trained.parent / "twin"
    with filelock.FileLock(trained.parent / "twin.lock"):
        if not (out / TARGET).exists():
            run = edgec("build", "--target", TARGET, "--out", str(out), "--float-twin", cwd=trained)
            assert run.code == 0, run.errors
    return out / TARGET


@pytest.fixture
def data(trained: Path, tmp_path: Path) -> Path:
    """Shifted forms of the evaluation set, each an .npz."""
    known = np.load(trained / "evaluation.npz")
    x, y = known["x"].astype(np.float32), known["y"]
    noise = np.random.default_rng(0).normal(0, 4, x.shape).astype(np.float32)
    for name, shifted in {"same": known["x"], "gain": 4 * x, "inverted": 16 - x, "noise": x + noise}.items():
        np.savez(tmp_path / f"{name}.npz", x=shifted, y=y)
    np.savez(tmp_path / "unlabelled.npz", x=(4 * x)[:200])
    return tmp_path


def validate(bundle: Path, data: Path, *options: str) -> Run:
    return edgec_here("validate", str(bundle), "--data", data.name, *options, cwd=data.parent)


def found(bundle: Path, data: Path, *options: str) -> dict[str, Any]:
    run = validate(bundle, data, "--json", *options)
    assert run.code == 0, run.errors
    content: dict[str, Any] = json.loads(run.output)
    return content


def test_its_own_evaluation_set_comes_out_as_the_manifest_says(twin_bundle: Path, data: Path) -> None:
    told = found(twin_bundle, data / "same.npz", "--fail-on", "drop=1,fall=0,disagreement=1,drift=1")
    manifest = read_bundle(twin_bundle)
    expected = {(item.artifact, item.runtime): item for item in manifest.accuracy}
    twin, *runs = told["runs"]
    assert (twin["role"], twin["artifact"]) == ("float", "float/model.onnx")
    assert {(run["artifact"], run["runtime"]) for run in runs} == set(expected)
    for run in runs:
        known = expected[run["artifact"], run["runtime"]]
        assert known.metric is not None
        assert run["value"] == pytest.approx(known.metric.value)
        assert run["fall"] == pytest.approx(0)
        assert run["paired"]["drop"] == pytest.approx(known.metric.drop)
        assert run["agreement"]["value"] == pytest.approx(known.agreement)
        assert float(run["fidelity"][0]["sqnr_db"]) == pytest.approx(known.fidelity[0].sqnr_db, abs=0.1)
        assert sum(item["samples"] for item in run["classes"]) == told["samples"] == 719
    assert [item["artifact"] for item in told["drift"]] == list(FORMATS)
    for drift in told["drift"]:
        assert len(drift["layers"]) == 5
        assert drift["moved"] == 0
    assert f"these are the same samples that {TARGET} was judged on" in told["notes"]


@pytest.mark.parametrize(
    "shift", ["gain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("inverted", "noise"))]
)
def test_shifted_samples_drift_in_every_format(twin_bundle: Path, data: Path, shift: str) -> None:
    told = found(twin_bundle, data / f"{shift}.npz", "--samples", "200")
    assert all(drift["points"] > 30 for drift in told["drift"])
    if shift != "inverted":  # which stays within all ranges: only levels move
        assert all(drift["layers"][0]["outside"]["value"] == 1.0 for drift in told["drift"])
        assert all(drift["layers"][0]["input"] == "images" for drift in told["drift"])


def test_a_limit_that_does_not_hold_ends_as_a_gate(twin_bundle: Path, data: Path) -> None:
    page = data / "out" / "page.html"
    run = validate(
        twin_bundle, data / "gain.npz", "--fail-on", "drift=5%", "--artifact", "model.onnx", "--html", str(page)
    )
    assert run.code == GateError.exit_code
    assert "1 limit of --fail-on not held" in run.errors
    assert f"{TARGET}/model.onnx: drift 5: " in run.errors
    assert "data:image/png;base64," in page.read_text()
    assert "model.tflite" not in run.output


@pytest.mark.slow
def test_without_labels_and_twin_artifacts_are_compared_with_each_other(rpi4_bundle: Path, data: Path) -> None:
    told = found(rpi4_bundle, data / "unlabelled.npz")
    first, *others = told["runs"]
    assert (first["role"], told["labelled"], told["metric"]) == ("reference", False, "agreement")
    assert "no bundle has a float twin" in told["reference"]
    assert all(run["paired"] is None and run["value"] is None for run in others)
    assert all(run["agreement"]["value"] > 0.9 for run in others)
    assert all(drift["points"] > 30 for drift in told["drift"])
    run = validate(rpi4_bundle, data / "unlabelled.npz", "--fail-on", "drop=1")
    assert run.code == GateError.exit_code
    assert "not measured (it needs labels or a metric, and a float twin)" in run.errors


@pytest.mark.slow
def test_another_bundles_twin_serves_the_same_model(twin_bundle: Path, rpi4_bundle: Path, data: Path) -> None:
    run = edgec_here(
        "validate", str(rpi4_bundle), str(twin_bundle), "--data", "same.npz", "--artifact", "model.onnx", "--json",
        cwd=data,
    )  # fmt: skip
    assert run.code == 0, run.errors
    told = json.loads(run.output)
    assert {item["bundle"]: item["role"] for item in told["runs"] if item["artifact"] == "model.onnx"} == {
        "rpi4-int8": "artifact", TARGET: "artifact",
    }  # fmt: skip
    assert all(item["paired"] is not None for item in told["runs"] if item["role"] == "artifact")


@pytest.mark.slow
def test_suggested_samples_mend_a_rebuild(twin_bundle: Path, trained: Path, data: Path) -> None:
    project = shutil.copytree(trained, data / "project")
    (project / "targets").mkdir()
    (project / "targets" / "one-int8.toml").write_text(f'extends = "{TARGET}"\n[[emit]]\nbackend = "onnxruntime"\n')
    shutil.copy(data / "noise.npz", project)
    noise = project / "noise.npz"
    before = found(twin_bundle, noise, "--artifact", "model.onnx")
    run = validate(twin_bundle, noise, "--artifact", "model.onnx", "--suggest-calibration", "more.npz")
    assert "64 samples that leave calibrated ranges, for [calibration] more: more.npz" in run.output
    stored = np.load(project / "more.npz")
    assert (stored["images"].shape, stored["images"].dtype, stored["y"].shape) == ((64, 8, 8), np.float32, (64,))
    text = (project / "edgec.toml").read_text()
    (project / "edgec.toml").write_text(text.replace("[evaluation]", 'more = ["more.npz"]\n\n[evaluation]'))
    built = edgec_here("build", "--target", "one-int8", "--float-twin", cwd=project)
    assert built.code == 0, built.errors
    manifest = read_bundle(project / "dist" / "one-int8")
    assert manifest.calibration is not None
    assert manifest.calibration.notes[-1] == "64 further samples of more.npz"
    assert manifest.project.settings["calibration"]["more"] == ["more.npz"]
    after = found(project / "dist" / "one-int8", noise)
    lost, left = (1 - one["runs"][1]["agreement"]["value"] for one in (before, after))
    assert left < lost / 2
    assert after["drift"][0]["layers"][0]["outside"]["value"] < 0.5


def test_no_samples_are_suggested_where_none_leaves_a_range(twin_bundle: Path, data: Path) -> None:
    np.savez(data / "dim.npz", x=np.full((40, 8, 8), 3, np.uint8))
    run = validate(twin_bundle, data / "dim.npz", "--suggest-calibration", "more.npz", "--artifact", "model.onnx")
    assert run.code == 0, run.errors
    assert "more.npz is not written" in run.output
    assert not (data / "more.npz").exists()


def test_class_folders_are_numbered_as_the_bundle_has_them(twin_bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "prod" / "7").mkdir(parents=True)
    np.save(tmp_path / "prod" / "7" / "a.npy", np.zeros((8, 8), np.uint8))
    told = found(twin_bundle, tmp_path / "prod", "--artifact", "model.onnx")
    assert told["runs"][1]["worst"][0]["place"] == "7/a.npy"


def test_a_bundle_that_was_tampered_with_is_not_run(twin_bundle: Path, data: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "float/model.onnx"):
        changed = shutil.copytree(twin_bundle, tmp_path / name.replace("/", "-"))
        file = changed / name
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
        run = validate(changed, data / "same.npz")
        assert run.code == BundleError.exit_code
        assert f"{name}: changed" in run.errors


def test_what_does_not_fit_is_refused(twin_bundle: Path, data: Path) -> None:
    np.savez(data / "wide.npz", x=np.zeros((4, 9, 9), np.uint8))
    np.savez(data / "odd.npz", x=np.zeros((4, 8, 8), np.uint8), y=np.array([0, 1, 2, 77]))
    for name, error, told in (
        ("wide.npz", DatasetError, "does not fit input"),
        ("odd.npz", LabelsError, "labels go from 0 to 77"),
        ("missing.npz", DatasetError, "no such file"),
    ):
        run = validate(twin_bundle, data / name)
        assert (run.code, told in run.errors) == (error.exit_code, True), run.errors
    run = validate(twin_bundle, data / "same.npz", "--artifact", "model.onx")
    assert (run.code, 'did you mean "model.onnx"' in run.errors) == (UsageError.exit_code, True)
