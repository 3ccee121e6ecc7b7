"""TorchScript files of every precision: what loads them, what they hold, and what stays as it was."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgec.backends.registry import get_backend
from edgec.backends.torch_quant.engines import running
from edgec.errors import InputSpecError, UnsupportedError
from edgec.quant.half import SPARED
from edgec.target.spec import Target

Compile = Callable[[str, Target], Any]
MakeTarget = Callable[..., Target]
BOTH = pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])

PLAIN = """
import sys, numpy, torch
torch.set_num_threads(1)
for case in sys.argv[1:]:
    folder, _, engine = case.rpartition("@")
    torch.backends.quantized.engine = engine
    model = torch.jit.load(folder + "/plain.pt").eval()
    inputs = numpy.load(folder + "/inputs.npz")
    with torch.no_grad():
        found = model(*[torch.from_numpy(inputs[name]) for name in inputs.files])
    found = [found] if isinstance(found, torch.Tensor) else found
    numpy.savez(folder + "/outputs.npz", *[tensor.numpy() for tensor in found])
assert "edgec" not in sys.modules
"""


def test_torch_alone_loads_the_files_and_gives_the_same(
    compiled: Compile, make_target: MakeTarget, tmp_path: Path
) -> None:
    kinds = [("vision", "int8"), ("sequence", "int8-dynamic"), ("sequence", "fp16"), ("vision", "fp32")]
    cases = {}
    for backend, (model, precision) in itertools.product(("fbgemm", "qnnpack"), kinds):
        folder = tmp_path / f"{backend}-{model}-{precision}"
        folder.mkdir()
        made = compiled(model, make_target(backend, precision))
        (folder / "plain.pt").write_bytes(made.file.read_bytes())
        np.savez(folder / "inputs.npz", **made.samples[3])
        cases[f"{folder}@{made.artifact.engine}"] = (folder, made)
    subprocess.run([sys.executable, "-c", PLAIN, *cases], check=True, cwd=tmp_path, capture_output=True)
    for folder, made in cases.values():
        given, found = made.runner()(made.samples[3]), np.load(folder / "outputs.npz")
        assert len(found.files) == len(given)
        for ours, theirs in zip(given.values(), found.values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@BOTH
def test_fp32_is_the_float_model(compiled: Compile, make_target: MakeTarget, backend: str) -> None:
    made = compiled("vision", make_target(backend, "fp32"))
    assert made.sqnr_db() > 100
    assert {op.dtype for op in made.runner().ops()} == {"float32"}
    assert not made.artifact.coverage


@BOTH
@pytest.mark.parametrize("model", ["dense", "sequence", "encoder"])
def test_fp16_halves_the_file_and_says_how_it_computes(
    compiled: Compile, make_target: MakeTarget, backend: str, model: str
) -> None:
    made = compiled(model, make_target(backend, "fp16"))
    assert made.sqnr_db() > 55
    stored = torch.jit.load(str(made.file)).state_dict()  # type: ignore[no-untyped-call]
    whole = sum(value.numel() for value in stored.values())
    half = sum(value.numel() for value in stored.values() if value.dtype == torch.float16)
    assert half >= (1 - SPARED) * whole
    assert any("widened on use" in item.reason for record in made.records for item in record.coverage)


@BOTH
def test_int8_files_are_about_a_quarter(compiled: Compile, make_target: MakeTarget, backend: str) -> None:
    whole = compiled("dense", make_target(backend, "fp32")).file.stat().st_size
    for precision in ("int8", "int8-dynamic"):
        assert compiled("dense", make_target(backend, precision)).file.stat().st_size < 0.3 * whole


AGAIN = """
import hashlib, importlib.util, itertools, pathlib, sys
spec = importlib.util.spec_from_file_location("models", sys.argv[1])
models = sys.modules["models"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)
cases = list(itertools.product(("fbgemm", "qnnpack"), ("fp32", "fp16", "int8", "int8-dynamic")))
for backend, precision in cases[::int(sys.argv[3])]:
    folder = pathlib.Path(sys.argv[2], backend, precision)
    made = models.compile_model("dense", models.make_target(backend, precision), folder)
    digest = hashlib.sha256(made.file.read_bytes()).hexdigest()
    print(backend, precision, digest, *[item.after for item in made.records])
"""


@pytest.mark.slow
def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    # in another order, as a build that searches and one that follows edgec.lock: torch numbers the classes it scripts
    models = str(Path(__file__).with_name("conftest.py"))
    once, twice = (
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", AGAIN, models, str(tmp_path / name), step],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.splitlines()
        for name, seed, step in (("a", "1", "1"), ("another", "2", "-1"))
    )
    assert len(once) == 8
    assert once == twice[::-1]


def test_the_step_of_a_quantized_output_is_told(compiled: Compile, make_target: MakeTarget) -> None:
    made = compiled("vision", make_target("qnnpack"))
    (output,) = made.artifact.outputs
    codes = made.runner()(made.samples[0])["output_0"] / output.step
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
    assert compiled("vision", make_target("qnnpack", "fp32")).artifact.outputs[0].step is None


def test_switches_are_put_back_even_after_an_error() -> None:
    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    before = torch.backends.quantized.engine, torch.get_num_threads()
    other = next(name for name in engines if name != before[0])

    def fail() -> None:
        assert (torch.backends.quantized.engine, torch.get_num_threads()) == (other, before[1] + 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), running(other, before[1] + 1):
        fail()
    assert (torch.backends.quantized.engine, torch.get_num_threads()) == before
    with pytest.raises(UnsupportedError, match="no quantized engine"), running("tpu", 1):
        raise AssertionError("must not get here")


def test_wrong_inputs_and_files_are_refused(compiled: Compile, make_target: MakeTarget, tmp_path: Path) -> None:
    made = compiled("vision", make_target("qnnpack"))
    runner = made.runner()
    with pytest.raises(InputSpecError, match='"image" is missing'):
        runner({})
    with pytest.raises(InputSpecError, match="has shape"):
        runner({"image": np.zeros((2, 3, 12, 10), np.float32)})
    backend = get_backend("qnnpack")
    with pytest.raises(UnsupportedError, match="does not run TorchScript"):
        backend.runner(made.artifact, made.file, "onnxruntime", 1)
    torn = tmp_path / "torn.pt"
    torn.write_bytes(made.file.read_bytes()[:500])
    with pytest.raises(UnsupportedError, match="does not load"):
        backend.runner(made.artifact, torn, "torch", 1)


@BOTH
def test_the_profiler_times_every_product(compiled: Compile, make_target: MakeTarget, backend: str) -> None:
    for precision in ("int8", "fp32"):
        made = compiled("vision", make_target(backend, precision))
        runner = made.runner()
        times = runner.op_times(made.samples[0], 3)
        products = [op.name for op in runner.ops() if "conv" in op.op or "linear" in op.op]
        assert len(products) == 4
        assert [item.name for item in times if item.name in products] == products
        assert all(item.microseconds > 0 for item in times)


def test_impossible_targets_are_told_why(make_target: MakeTarget) -> None:
    target = make_target("fbgemm", engine="qnnpack")
    (reason,) = get_backend("fbgemm").reasons_against(target, target.emit[0])
    assert '"qnnpack" is not one of auto, fbgemm, x86, onednn' in reason
    reasons = get_backend("qnnpack").reasons_against(target, target.emit[0].model_copy(update={"engine": None}))
    assert list(reasons) == ["qnnpack is for aarch64, and the device is x86_64"]


def test_listing_passes_imports_no_torch() -> None:
    code = (
        "import sys; from edgec.backends.registry import get_backend; get_backend('fbgemm'); get_backend('qnnpack');"
        "from edgec.backends.torch_quant import passes, quantize; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
