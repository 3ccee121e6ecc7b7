"""The same inputs give the same bytes wherever and however they are built; edgec.lock tells when they are others."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.bundle.check import check_digests
from edgec.errors import LockError, ProjectError, RegressionError, ReproducibilityError
from edgec.storage.cache import CACHE_VARIABLE

from .command import EDGEC, Run, environment, start
from .command import edgec as edgec_command

pytestmark = pytest.mark.usefixtures("own_cache")

TARGET = 'extends = "x86-64-{precision}"\n[[emit]]\nbackend = "onnxruntime"\n'
FEW = ("--evaluate-samples", "60")


@pytest.fixture
def small(project: Path) -> Path:
    """The digits project with targets of one artifact, and without a lock."""
    (project / "targets").mkdir()
    for precision in ("fp32", "int8"):
        (project / "targets" / f"{precision}.toml").write_text(TARGET.format(precision=precision))
    (project / "edgec.lock").unlink(missing_ok=True)
    shutil.rmtree(project / "dist", ignore_errors=True)
    return project


def build(project: Path, *arguments: str, target: str = "fp32", **variables: str) -> Run:
    done = subprocess.run(
        [str(EDGEC), "build", "--target", target, *FEW, *arguments], cwd=project, env=environment() | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, done.stderr)


def refused(run: Run, *lines: str) -> None:
    assert run.code == LockError.exit_code, run.errors
    for line in lines:
        assert line in run.errors
    assert "run the float model" not in run.errors


def keys(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from keys(item, f"{above}.{key}")
    else:
        yield above, value


def test_another_folder_user_and_time_zone_give_the_same_bytes(
    rpi4_bundle: Path, trained: Path, tmp_path: Path
) -> None:
    """All runtimes; and model and weights have other names, which is all that the manifest then tells."""
    other = shutil.copytree(trained, tmp_path / "a torch project", ignore=shutil.ignore_patterns("edgec.lock", "dist"))
    (other / "model.pt").rename(other / "weights of may.pt")
    (other / "model.py").rename(other / "my net.py")
    text = (other / "edgec.toml").read_text().replace('"model.pt"', '"weights of may.pt"')
    (other / "edgec.toml").write_text(text.replace('"model.py:', '"my net.py:'))
    elsewhere, home, temporary = (tmp_path / name for name in ("elsewhere", "home", "temporary"))
    for folder in (elsewhere, home, temporary):
        folder.mkdir()
    variables = {
        "HOME": str(home), "TMPDIR": str(temporary), "TZ": "EDGEC-13:30", "PYTHONHASHSEED": "4711", "LANG": "C",
        CACHE_VARIABLE: str(tmp_path / "elsewhere-cache"),
    }  # fmt: skip
    flags = ("--project", str(other), "--out", str(tmp_path / "out"), "--jobs", "1")
    done = subprocess.run(
        [str(EDGEC), "build", "-t", "rpi4-int8", *flags],
        cwd=elsewhere, env=environment() | variables, umask=0o077, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here = tmp_path / "out" / "rpi4-int8"
    assert check_digests(here).files == check_digests(rpi4_bundle).files
    for file in rpi4_bundle.rglob("*"):
        assert file.stat().st_mode == (here / file.relative_to(rpi4_bundle)).stat().st_mode
    first, second = (dict(keys(json.loads((folder / "manifest.json").read_text()))) for folder in (rpi4_bundle, here))
    assert first.keys() == second.keys()
    assert {key for key in first if first[key] != second[key]} == {
        ".project.sha256", ".project.settings.model.path", ".project.settings.model.weights", ".source.path",
        ".source.weights",
    }  # fmt: skip
    assert first[".source.weights_sha256"] == hashlib.sha256((trained / "model.pt").read_bytes()).hexdigest()
    assert first[".project.sha256"] == hashlib.sha256((trained / "edgec.toml").read_bytes()).hexdigest()
    assert ".isa.torch" in first


@pytest.mark.slow
def test_what_is_reproducible_and_locked_is_built_without_a_search(small: Path) -> None:
    lock, bundle = small / "edgec.lock", small / "dist" / "int8"
    lock.write_text('{"schema_version": 1, "targets": {"int8": {}}}')
    refused(build(small, "--locked", target="int8"), "an earlier edgec wrote it")

    run = build(small, "--check-reproducible", target="int8", SOURCE_DATE_EPOCH="1700000000")
    assert run.code == 0, run.errors
    manifest = bundle / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    count = len(check_digests(bundle).files) + 1
    told = f"int8: reproducible: {count} files are byte for byte the same in a second build, manifest {digest}"
    assert told in run.errors
    assert "edgec.lock was written by an earlier edgec: search again, and replace it" in run.errors
    assert "int8: model.onnx: run in onnxruntime" in run.errors
    assert "int8: second build: model.onnx: run in onnxruntime" in run.errors  # it searched as the first did
    assert manifest.stat().st_mtime == 1700000000
    assert [path.name for path in (small / "dist").iterdir() if path.name != ".work"] == ["int8"]

    content = json.loads(lock.read_text())
    assert content["schema_version"] == 2
    (artifact,) = content["targets"]["int8"]["artifacts"].values()
    artifact["recipe"] = {"calibration": "percentile"}
    lock.write_text(json.dumps(content))
    run = build(small, "--locked", target="int8")
    assert run.code == 0, run.errors
    assert "run in onnxruntime" not in run.errors
    assert check_digests(bundle).artifacts[0].recipe.calibration == "percentile"

    content["targets"]["int8"]["inputs"]["gates"] = '{"min_sqnr_db":90.0}'
    lock.write_text(json.dumps(content))
    toml = (small / "edgec.toml").read_text()
    (small / "edgec.toml").write_text(toml.replace("max_drop = 1.0", "min_sqnr_db = 90.0"))
    run = build(small, "--locked", target="int8")
    assert run.code == LockError.exit_code, run.errors
    assert "edgec.lock's recipe does not meet its gates" in run.errors
    assert "run in onnxruntime" not in run.errors


@pytest.mark.slow
def test_a_model_that_is_another_in_each_process_is_found_out(small: Path) -> None:
    assert build(small).code == 0
    lock = (small / "edgec.lock").read_bytes()
    with (small / "model.py").open("a") as code:
        code.write(
            "\n\nimport os\n\n\ndef unsteady():\n    model = DigitsCNN()\n    state = torch.load('model.pt')\n"
            "    state['classifier.0.bias'][0] += os.getpid() * 1e-6\n    model.load_state_dict(state)\n"
            "    return model\n"
        )
    text = (small / "edgec.toml").read_text()
    (small / "edgec.toml").write_text(text.replace(":DigitsCNN", ":unsteady").replace('weights = "model.pt"', ""))
    run = build(small, "--check-reproducible")
    assert run.code == ReproducibilityError.exit_code, run.errors
    assert re.search(r"\n  model.onnx: 1 of \d+ tensors: (inner.)?classifier.0.bias\n", run.errors), run.errors
    assert "  bench/expected-model.onnx.npz: " in run.errors
    assert "  manifest.json: " in run.errors
    assert "process ids" in run.errors
    assert not (small / "dist" / "fp32").exists()  # not even the older one
    assert not list((small / "dist" / ".work").rglob("manifest.json"))
    assert (small / "edgec.lock").read_bytes() == lock


def test_nothing_is_in_place_before_the_second_build_has_shown_it_right(small: Path) -> None:
    process = start("build", "--target", "fp32", *FEW, "--check-reproducible", cwd=small)
    assert process.stderr is not None
    assert any("second build: load model.py" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (small / "dist" / "fp32").exists()
    assert not (small / "edgec.lock").exists()


@pytest.mark.slow
def test_locked_builds_are_held_to_the_lock(small: Path) -> None:
    refused(build(small, "--locked"), "there is no edgec.lock")
    assert build(small).code == 0
    manifest, lock = small / "dist" / "fp32" / "manifest.json", small / "edgec.lock"
    first, locked = manifest.read_bytes(), lock.read_bytes()
    run = build(small, "--locked")
    assert run.code == 0, run.errors
    assert (manifest.read_bytes(), lock.read_bytes()) == (first, locked)
    refused(build(small, "--locked", target="int8"), "int8 is not in it")

    toml = (small / "edgec.toml").read_text()
    (small / "edgec.toml").write_text(toml.replace("max_drop = 1.0", "max_drop = 0.5") + "[build]\nseed = 3\n")
    run = build(small, "--locked", ATEN_CPU_CAPABILITY="default")
    refused(run, '\n  gates: {"max_drop":1.0} -> {"max_drop":0.5}\n', "\n  seed: 0 -> 3\n", "\n  isa: x86_64 ")
    assert "load model.py" not in run.errors
    (small / "edgec.toml").write_text(toml + "# a remark\n")

    override = small / "targets" / "fp32.toml"
    plain = override.read_text()
    override.write_text(plain + '[[emit]]\nbackend = "fbgemm"\n')
    refused(build(small, "--locked"), "\n  target: ", "\n  model.fbgemm.pt: not locked -> to be built\n")
    override.write_text(plain)

    (small / "other.pt").write_bytes((small / "model.pt").read_bytes())
    run = build(small, "--locked", "--weights", "other.pt", "--time-budget", "5000", "--effort", "max")
    refused(
        run,
        '\n  setting build.effort: default -> "max"\n',
        "\n  setting build.time_budget: default -> 5000.0\n",
        '\n  setting model.weights: "model.pt" -> "other.pt"\n',
    )
    assert "load model.py" not in run.errors
    assert "\n  weights: " not in run.errors
    content = json.loads(locked)
    content["targets"]["fp32"]["artifacts"]["model.onnx"]["recipe"] = {"float_layers": ["nope"]}
    lock.write_text(json.dumps(content))
    for flags in (("--locked",), ()):
        run = build(small, *flags)
        assert run.code == ProjectError.exit_code, run.errors
        assert "edgec.lock: targets.fp32.artifacts.model.onnx: recipe: no fp32 artifact " in run.errors
        assert 'has {"float_layers":["nope"]}' in run.errors
    lock.write_bytes(locked)

    stored = dict(np.load(small / "evaluation.npz"))
    np.savez(small / "evaluation.npz", **stored | {"y": np.roll(stored["y"], 1)})
    refused(build(small, "--locked"), "\n  evaluation: ")
    np.savez(small / "evaluation.npz", **{name: value[::-1] for name, value in stored.items()})
    refused(build(small, "--locked"), "\n  evaluation: ")
    np.savez_compressed(small / "evaluation.npz", **stored)  # another file with the same samples
    with pytest.raises(LockError, match="evaluation"):
        edgec.build(target="fp32", project=small, locked=True, settings={"evaluation.samples": 50})
    bundle = edgec.build(target="fp32", project=small, locked=True, settings={"evaluation.samples": 60})
    assert lock.read_bytes() == locked
    same = json.loads(first)
    same["project"]["sha256"] = bundle.manifest.project.sha256  # of the remark
    assert bundle.manifest.plain() == same


@pytest.mark.slow
def test_what_a_metric_imports_and_reads_is_locked_and_compared(small: Path) -> None:
    (small / "metric.py").write_text(
        "from importlib import import_module\nfrom pathlib import Path\n\n\ndef score(outputs, labels):\n"
        "    from parts.right import right\n\n    (scores,) = outputs.values()\n"
        "    factor = import_module('fac' + 'tor').FACTOR * float(Path('factor.txt').read_text())\n"
        "    return factor * right(scores, labels)\n"
    )
    (small / "parts").mkdir()
    helper, factor = small / "parts" / "right.py", small / "factor.txt"
    helper.write_text("def right(scores, labels):\n    return scores.argmax(-1) == labels\n")
    factor.write_text("0.5")
    (small / "factor.py").write_text("FACTOR = 1\n")
    text = (small / "edgec.toml").read_text()
    (small / "edgec.toml").write_text(text.replace("[evaluation]", '[evaluation]\nmetric = "metric.py:score"'))
    depfile = ("--depfile", "build.d")
    run = build(small, *depfile)
    assert run.code == 0, run.errors
    assert "parts/right.py:" in (small / "build.d").read_text()
    first = small / "dist" / "first"
    shutil.copytree(small / "dist" / "fp32", first)
    code = check_digests(first).project.code
    assert list(code) == ["factor.py", "factor.txt", "metric.py", "parts/right.py"]
    assert code["factor.txt"] == hashlib.sha256(b"0.5").hexdigest()
    assert build(small, "--locked").code == 0

    factor.write_text("1.0")
    run = build(small, "--locked")
    assert run.code == LockError.exit_code, run.errors
    assert "\n  metric reads factor.txt: " in run.errors
    assert "model.onnx" not in run.errors
    helper.write_text("def right(scores, labels):\n    return 0 * labels + 1\n")
    run = build(small, "--locked")
    refused(run, "\n  code parts/right.py: ")
    assert "load model.py" not in run.errors

    run = build(small)
    assert run.code == 0, run.errors
    assert "edgec.lock no longer holds (code parts/right.py changed): search again" in run.errors
    compared = edgec_command("compare", str(first), "dist/fp32", "--fail-on", "accuracy=1", cwd=small)
    assert compared.code == RegressionError.exit_code
    assert "code that the metric may use differs (factor.txt, parts/right.py)" in compared.errors
    factor.write_text("0.75")
    run = build(small)
    assert "edgec.lock no longer holds (metric reads factor.txt changed): search again" in run.errors


def test_a_malformed_source_date_epoch_is_told_before_anything_is_built(small: Path) -> None:
    run = build(small, SOURCE_DATE_EPOCH="today")
    assert run.code == 2
    assert 'SOURCE_DATE_EPOCH is "today"' in run.errors
    assert "load model.py" not in run.errors
