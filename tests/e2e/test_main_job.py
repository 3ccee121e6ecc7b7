"""The main job's outcome: what is in the bundle of `edgec build --target rpi4-int8`, and the verbs that read it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgec as package
from edgec.bundle.manifest import Manifest
from edgec.errors import BundleError, ParityError, UsageError

from .command import edgec, environment

ARTIFACTS = ("model.tflite", "model.qnnpack.pt", "model.onnx")


@pytest.fixture
def copied(rpi4_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return shutil.copytree(rpi4_bundle, tmp_path / "bundle")


def test_all_artifacts_are_measured_in_every_runtime(rpi4_bundle: Path) -> None:
    manifest = Manifest.model_validate_json((rpi4_bundle / "manifest.json").read_text())
    assert tuple(item.artifact.file for item in manifest.artifacts) == ARTIFACTS
    assert {(item.artifact, item.runtime) for item in manifest.accuracy} == {
        ("model.tflite", "ai-edge-litert"),
        ("model.tflite", "tflite-runtime"),
        ("model.qnnpack.pt", "torch"),
        ("model.onnx", "onnxruntime"),
    }
    for item in manifest.accuracy:
        assert not item.failure
        assert item.metric is not None
        assert item.metric.samples == item.samples == 719
        assert item.metric.float_value > 97
        assert item.metric.drop <= 1
        assert item.metric.drop_low is not None
        assert item.metric.drop_low <= item.metric.drop <= (item.metric.drop_high or 0)
        assert item.agreement is not None
        assert item.agreement > 0.98
        assert min(one.sqnr_db for one in item.fidelity) > 20
        integer = sum(op.count for op in item.ops if op.dtype == "int8")
        assert integer >= 4  # two convolutions and two linear layers
    assert {gate.state for gate in manifest.gates} == {"met"}


def test_nothing_in_the_manifest_tells_where_or_when(rpi4_bundle: Path) -> None:
    text = (rpi4_bundle / "manifest.json").read_text()
    assert str(rpi4_bundle.parent) not in text
    assert str(Path.home()) + "/" not in text
    assert "seconds" not in text


def test_report_opens_offline(rpi4_bundle: Path) -> None:
    page = (rpi4_bundle / "report.html").read_text()
    assert "http" not in page
    assert all(name in page for name in ARTIFACTS)


def test_verify(rpi4_bundle: Path) -> None:
    run = edgec("verify", str(rpi4_bundle), cwd=rpi4_bundle)
    assert run.code == 0, run.errors
    assert run.output.count("outputs as recorded") == 4


def test_verify_finds_a_changed_byte(copied: Path) -> None:
    data = bytearray((copied / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "model.onnx").write_bytes(data)
    run = edgec("verify", str(copied), cwd=copied)
    assert run.code == BundleError.exit_code
    assert "model.onnx" in run.errors


def test_bench_runs_the_harness_and_names_the_wrong_machine(copied: Path) -> None:
    run = edgec("bench", str(copied), "--runs", "20", cwd=copied)
    assert run.code == 0, run.errors
    assert "not a rpi4" in run.output
    result = json.loads((copied / "bench" / "result.json").read_text())
    assert result["artifact"] == "model.tflite"
    assert 0 < result["latency"]["p50_ms"] <= result["latency"]["p99_ms"]
    assert result["parity"]["ok"]
    assert edgec("verify", str(copied), cwd=copied).code == 0  # the result does not spoil the bundle


def test_bench_of_each_artifact(rpi4_bundle: Path, tmp_path: Path) -> None:
    for name in ARTIFACTS:
        out = tmp_path / f"{name}.json"
        run = edgec("bench", str(rpi4_bundle), "--artifact", name, "--runs", "5", "--out", str(out), cwd=tmp_path)
        assert run.code == 0, run.errors
        assert json.loads(out.read_text())["artifact"] == name


def test_bench_of_an_unknown_artifact(rpi4_bundle: Path) -> None:
    run = edgec("bench", str(rpi4_bundle), "--artifact", "model.tfl", cwd=rpi4_bundle)
    assert run.code == UsageError.exit_code
    assert "model.tflite" in run.errors


def test_other_outputs_than_recorded_are_an_error(copied: Path) -> None:
    """An artifact that is exchanged together with its digests still does not pass."""
    expected = dict(np.load(copied / "bench" / "expected-model.onnx.npz"))
    np.savez(copied / "bench" / "expected-model.onnx.npz", **{name: 5 - value for name, value in expected.items()})
    manifest = json.loads((copied / "manifest.json").read_text())
    data = (copied / "bench" / "expected-model.onnx.npz").read_bytes()
    record = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    manifest["files"]["bench/expected-model.onnx.npz"] = record
    (copied / "manifest.json").write_text(json.dumps(manifest))
    run = edgec("bench", str(copied), "--artifact", "model.onnx", cwd=copied)
    assert run.code == ParityError.exit_code, run.errors


def test_inspect(rpi4_bundle: Path) -> None:
    run = edgec("inspect", str(rpi4_bundle), cwd=rpi4_bundle)
    assert run.code == 0, run.errors
    assert all(name in run.output for name in ARTIFACTS)
    one = edgec("inspect", str(rpi4_bundle / "model.onnx"), cwd=rpi4_bundle)
    assert "QLinearConv int8" in one.output
    assert "model.tflite" not in one.output
    assert json.loads(edgec("inspect", "--json", str(rpi4_bundle), cwd=rpi4_bundle).output)["kind"] == "edgec bundle"


@pytest.mark.parametrize("verb", ["verify", "bench", "inspect"])
def test_not_a_bundle(verb: str, tmp_path: Path) -> None:
    run = edgec(verb, str(tmp_path), cwd=tmp_path)
    assert run.code == BundleError.exit_code
    assert "Traceback" not in run.errors


@pytest.mark.slow
def test_the_compiler_process_never_imports_a_heavy_toolchain(project: Path) -> None:
    code = (
        "import sys, edgec\n"
        "bundle = edgec.build(target='rpi4-int8', settings={'evaluation.samples': 50})\n"
        "assert bundle.path.joinpath('manifest.json').exists()\n"
        "assert edgec.build is not None and callable(edgec.build)\n"
        "print([name for name in ('tensorflow', 'onnx2tf', 'tflite_runtime') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_python_api_names_are_documented() -> None:
    assert package.build.__doc__
    assert package.Bundle.__doc__


@pytest.mark.slow
def test_the_harness_names_only_runtimes_that_the_device_has(project: Path) -> None:
    """ai-edge-litert has no release for 32-bit ARM: the artifact is reported there, and not run by its harness."""
    run = edgec("build", "--target", "rpi3-armv7-fp32", "--evaluate-samples", "50", cwd=project)
    assert run.code == 0, run.errors
    bundle = project / "dist" / "rpi3-armv7-fp32"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert {item["runtime"]: item["judged"] for item in manifest["accuracy"]} == {
        "tflite-runtime": True,
        "ai-edge-litert": False,
    }
    (artifact,) = json.loads((bundle / "bench" / "bench.json").read_text())["artifacts"]
    assert artifact["runtimes"] == ["tflite-runtime"]
    assert "litert" not in (bundle / "bench" / "requirements.txt").read_text()
