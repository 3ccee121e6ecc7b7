"""`edgec compare` on a real bundle and on one that was made worse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgec.bundle.check import read_bundle
from edgec.bundle.write import write_manifest
from edgec.errors import BundleError, RegressionError, StorageError, UsageError

from .command import Run, edgec_here

LIMITS = "accuracy=0.5,agreement=0.5,latency=10%,size=5%,memory=10%"


@pytest.fixture
def worse(rpi4_bundle: Path, tmp_path: Path) -> Path:
    """The bundle with one artifact of lower accuracy, one that grew, and one that is gone."""
    folder = shutil.copytree(rpi4_bundle, tmp_path / "worse")
    manifest = read_bundle(folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0" * 5000)
    (folder / "model.qnnpack.pt").unlink()
    accuracy, artifacts = [], []
    for item in manifest.accuracy:
        if item.artifact == "model.tflite":
            assert item.metric is not None
            item = item.model_copy(update={"metric": item.metric.model_copy(update={"value": item.metric.value - 2})})
        if item.artifact != "model.qnnpack.pt":
            accuracy.append(item)
    for record in manifest.artifacts:
        file = folder / record.artifact.file
        if file.exists():
            from edgec.bundle.write import digest_file

            found = digest_file(file)
            artifacts.append(record.model_copy(update={"sha256": found.sha256, "size": found.size}))
    changed = {"accuracy": tuple(accuracy), "artifacts": tuple(artifacts)}
    write_manifest(folder, manifest.model_copy(update=changed))
    return folder


def compare(old: Path, new: Path, *options: str) -> Run:
    return edgec_here("compare", str(old), str(new), *options, cwd=old.parent)


def test_a_bundle_and_itself(rpi4_bundle: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    run = compare(rpi4_bundle, rpi4_bundle, "--fail-on", LIMITS, "--summary", str(summary))
    assert run.code == 0, run.errors
    assert run.output.startswith("## rpi4-int8: nothing worse than allowed (accuracy 0.5, ")
    assert summary.read_text() == "# Before\n" + run.output
    rows = [line for line in run.output.splitlines() if line.startswith("| model.")]
    assert len(rows) == len(read_bundle(rpi4_bundle).accuracy)
    assert "→" not in run.output


def test_what_is_worse_fails_and_is_named(rpi4_bundle: Path, worse: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    run = compare(rpi4_bundle, worse, "--fail-on", LIMITS, "--json", "--summary", str(summary))
    assert run.code == RegressionError.exit_code
    for told in (
        "model.tflite in ai-edge-litert: accuracy: 2 points (2.0 %) worse than before, 0.5 allowed",
        "model.qnnpack.pt in torch: gone: NEW has no such artifact",
        "model.onnx: size: 4.88 KiB",
    ):
        assert told in run.errors
    data = json.loads(run.output)
    assert {(item["artifact"], item["what"]) for item in data["regressions"]} == {
        ("model.tflite", "accuracy"),
        ("model.qnnpack.pt", "gone"),
        ("model.onnx", "size"),
    }
    assert "- **size** of model.onnx: 4.88 KiB" in summary.read_text()
    only_told = compare(rpi4_bundle, worse)
    assert (only_told.code, only_told.errors) == (0, "")
    assert compare(worse, rpi4_bundle, "--fail-on", LIMITS).code == 0


def test_limits_that_nothing_was_compared_for_fail(rpi4_bundle: Path, tmp_path: Path) -> None:
    empty = shutil.copytree(rpi4_bundle, tmp_path / "empty")
    write_manifest(empty, read_bundle(empty).model_copy(update={"accuracy": ()}))
    run = compare(empty, empty, "--fail-on", "accuracy=0.5,size=5%")
    assert run.code == RegressionError.exit_code
    assert "1 regression against" in run.errors
    assert "accuracy: nothing was compared: no runtime that gates judge ran in both bundles" in run.errors
    assert "| model.onnx | - | not measured |" in run.output
    assert compare(empty, empty, "--fail-on", "size=5%").code == 0


def test_wrong_use_is_told(rpi4_bundle: Path, worse: Path, tmp_path: Path) -> None:
    typo = compare(rpi4_bundle, worse, "--fail-on", "latancy=10%")
    assert typo.code == UsageError.exit_code
    assert 'did you mean "latency"?' in typo.errors
    missing = compare(rpi4_bundle, tmp_path / "nowhere")
    assert missing.code == BundleError.exit_code
    refused = compare(rpi4_bundle, rpi4_bundle, "--summary", str(tmp_path / "no" / "folder.md"))
    assert refused.code == StorageError.exit_code
    (worse / "model.tflite").write_bytes(b"")
    changed = compare(rpi4_bundle, worse)
    assert changed.code == BundleError.exit_code
    assert "model.tflite: changed" in changed.errors
