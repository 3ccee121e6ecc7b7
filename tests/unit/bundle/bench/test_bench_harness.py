"""The harness as a device runs it: a program of its own, from a bundle's folder."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.backends.registry import BUILT_IN, get_backend
from edgec.bundle.bench.write import HARNESS
from edgec.bundle.check import read_bundle
from edgec.bundle.write import write_manifest

DOCUMENT = Path(__file__).parents[4] / "docs" / "bench-result.md"
Done = subprocess.CompletedProcess[str]


def run(bundle: Path, *arguments: str, python: tuple[str, ...] = (sys.executable,), **env: str) -> Done:
    command = [*python, str(bundle / "bench" / "bench.py"), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def result_of(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "bench" / "result.json").read_text())
    return found


def keys_of(value: Any, prefix: str = "") -> set[str]:
    """Dotted paths of all leaves; an object that may be null counts as a key as well."""
    if isinstance(value, list):
        return set().union(*(keys_of(item, f"{prefix}[]") for item in value))
    if not isinstance(value, dict):
        return {prefix}
    return set().union(*(keys_of(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()))


def told(done: Done) -> str:
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr, done.stderr
    return lines[-1] if lines else ""


def test_a_sound_bundle_is_checked_and_timed(bundle: Path) -> None:
    done = run(bundle, "--runs", "7", "--warmup", "0", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    result = result_of(bundle)
    assert (result["artifact"], result["runtime"], result["runs"], result["warmup"]) == (
        "model.onnx",
        "onnxruntime",
        7,
        0,
    )
    assert result["parity"]["ok"] is True
    assert result["parity"]["samples"] == 3
    floats, integers = result["parity"]["outputs"]
    assert (floats["output"], floats["max_unequal"], floats["unequal"], floats["max_abs_error"]) == ("y", None, 0, 0)
    assert floats["atol"] == pytest.approx(4e-3)
    assert (integers["output"], integers["atol"], integers["max_unequal"]) == ("k", None, 0.0)
    times = result["latency"]
    assert 0 < times["min_ms"] <= times["p50_ms"] <= times["p90_ms"] <= times["p99_ms"]
    assert result["peak_rss_mb"] > 10
    assert "outputs      as recorded" in done.stdout


def test_every_key_of_the_result_is_documented_and_no_other(bundle: Path) -> None:
    assert run(bundle, "--runs", "1").returncode == 0
    timed = keys_of(result_of(bundle))
    assert run(bundle, "--check-only").returncode == 0
    untimed = keys_of(result_of(bundle))
    assert untimed - timed == {"latency"}
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {row[0] for row in rows} == timed | untimed
    assert len(rows) == len(timed | untimed)
    codes = re.findall(r"^\| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    source = (HARNESS / "bench.py").read_text()
    assert codes == ["0", *re.findall(r"^DAMAGED, .* = (.*)$", source, re.MULTILINE)[0].split(", ")]


def test_a_changed_missing_or_escaping_file_is_2(bundle: Path, tmp_path: Path) -> None:
    model = bundle / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = run(bundle)
    assert (done.returncode, told(done)) == (2, "bench.py: the bundle is not as it was built: model.onnx: changed")
    model.unlink()
    assert run(bundle).returncode == 2
    (tmp_path / "outside").write_bytes(content)
    model.symlink_to(tmp_path / "outside")
    assert "model.onnx: leads out of the bundle" in told(run(bundle))
    (bundle / "manifest.json").write_text("{")
    done = run(bundle)
    assert (done.returncode, "manifest.json cannot be read" in told(done)) == (2, True)
    assert not (bundle / "bench" / "result.json").exists()


def test_other_outputs_are_3_and_are_recorded(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", shift=0.25)
    done = run(bundle)
    assert (done.returncode, "model.onnx computes something else here: y: off by 0.25" in told(done)) == (3, True)
    result = result_of(bundle)
    assert (result["parity"]["ok"], result["latency"]) == (False, None)
    assert [item["ok"] for item in result["parity"]["outputs"]] == [False, True]


def test_small_differences_are_within_the_tolerance(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", shift=1e-3)
    assert run(bundle, "--check-only").returncode == 0
    assert result_of(bundle)["parity"]["outputs"][0]["max_abs_error"] == pytest.approx(1e-3, rel=1e-2)


def test_not_a_number_is_a_difference(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", shift=float("nan"))
    assert run(bundle, "--check-only").returncode == 3
    assert result_of(bundle)["parity"]["outputs"][0]["max_abs_error"] is None


def test_a_missing_runtime_or_numpy_is_4(bundle: Path, tmp_path: Path) -> None:
    bare = (sys.executable, "-S")  # without the installed packages
    done = run(bundle, python=bare, PYTHONPATH="")
    assert (done.returncode, "numpy cannot be imported" in told(done)) == (4, True)
    assert "-m pip install -r" in told(done)
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    done = run(bundle, python=bare, PYTHONPATH=str(packages))
    assert (done.returncode, "onnxruntime cannot be imported" in told(done)) == (4, True)


def test_a_file_that_the_runtime_refuses_is_4(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    done = run(make_bundle(tmp_path / "b", content=b"no model"))
    assert (done.returncode, "onnxruntime refuses model.onnx" in done.stderr) == (4, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("out", ["no/such/folder/r.json", ".", "/dev/full/r.json"])
def test_a_result_that_cannot_be_written_is_5(bundle: Path, out: str) -> None:
    done = run(bundle, "--check-only", "--out", out if out.startswith("/") else str(bundle / out))
    assert (done.returncode, "choose another place with --out" in told(done)) == (5, True)
    assert [file.name for file in bundle.parent.iterdir()] == [bundle.name]


def test_the_folder_itself_as_result_is_5(bundle: Path) -> None:
    command = [sys.executable, "bench/bench.py", "--check-only", "--out", "."]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (5, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threads", "0"], "argument --threads: invalid"),
        (["--runs", "many"], "argument --runs: invalid"),
        (["--warmup", "-1"], "--warmup"),
        (["--speed"], "unrecognized arguments: --speed"),
        (["--artifact", "m.tflite"], "no artifact is called m.tflite; there are: model.onnx"),
        (["--runtime", "torch"], "model.onnx does not run in torch; it does in: onnxruntime"),
    ],
)
def test_wrong_arguments_are_64(built: Path, arguments: list[str], words: str) -> None:
    done = run(built, *arguments)
    assert (done.returncode, words in told(done)) == (64, True)


RUNNERS = {runner: get_backend(name) for name in BUILT_IN if (runner := get_backend(name).format.runner)}


@pytest.mark.parametrize("program", [HARNESS / "bench.py", *RUNNERS])
def test_programs_are_python_39_and_import_no_more_than_a_device_has(program: Path) -> None:
    tree = ast.parse(program.read_text(), feature_version=(3, 9))
    names = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names])
    }
    runtimes = {item.distribution for item in RUNNERS[program].packages} if program in RUNNERS else {"numpy"}
    assert names - {"numpy"} <= {*sys.stdlib_module_names, *runtimes}
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


def test_a_format_without_a_runner_is_4(bundle: Path) -> None:
    (bundle / "bench" / "run_onnx.py").unlink()
    write_manifest(bundle, read_bundle(bundle))
    done = run(bundle)
    assert (done.returncode, told(done)) == (4, "bench.py: this harness cannot run files of format onnx")
    assert not list(bundle.rglob("__pycache__"))


def shell(bundle: Path, *arguments: str, **env: str) -> Done:
    command = ["sh", str(bundle / "bench" / "run.sh"), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False, cwd="/")


def test_the_script_runs_the_program_from_anywhere(bundle: Path) -> None:
    done = shell(bundle, "--check-only", PYTHON=sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    assert result_of(bundle)["parity"]["ok"] is True
    done = shell(bundle, "--runs", "0", PYTHON=sys.executable)
    assert done.returncode == 64


def test_the_script_checks_digests_without_python(bundle: Path) -> None:
    done = shell(bundle, "--digests", PYTHON="/no/such/python")
    assert (done.returncode, done.stdout) == (0, "all 8 files match SHA256SUMS\n")
    (bundle / "bench" / "inputs.npz").write_bytes(b"")
    done = shell(bundle, PYTHON=sys.executable)
    assert (done.returncode, told(done)) == (2, "run.sh: the bundle is not as it was built; copy it again")
    assert "bench/inputs.npz: changed" in done.stderr
    assert "model.onnx" not in done.stderr


def test_the_script_tells_what_is_missing(bundle: Path, tmp_path: Path) -> None:
    done = shell(bundle, PYTHON="/no/such/python")
    assert (done.returncode, "Python 3.9 or later is needed" in done.stderr) == (4, True)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    done = shell(bundle, PYTHON=str(bare), PYTHONPATH="")
    assert (done.returncode, "NumPy is missing" in done.stderr) == (4, True)
