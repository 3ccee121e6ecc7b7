"""Every family of models through the four toolchains, uncut but for the build around them: quick enough for each run.

`tests/families` takes the same models through `edgec.build`, with its gates, on more targets.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from host_target import HOST

from edgec.backends.interface import Artifact, OpRecord
from edgec.backends.registry import get_backend
from edgec.dataset.spool import write_index
from edgec.ladder.requests import CompileAnswer, CompileRequest, CompilerOptions
from edgec.model import store
from edgec.model.outputs import tensors_of
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.model.trace import trace
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.workers.worker import Worker

MODELS = Path(__file__).parents[2] / "families" / "models.py"
_SPEC = importlib.util.spec_from_file_location("family_models", MODELS)
assert _SPEC is not None
assert _SPEC.loader is not None
FAMILIES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(FAMILIES)
TARGETS = {"onnxruntime": HOST, "fbgemm": HOST, "qnnpack": "rpi4", "tflite": "rpi4"}
LEAST_DB = {"fp32": 100.0, "int8": 20.0}
"""SQNR that the worst output must have."""
LONG = {("Transformer", "tflite"), ("Transformer", "qnnpack")}  # Text has the same layers
FLOAT_PRODUCTS: dict[tuple[str, str], set[str]] = {
    ("onnxruntime", "Recurrent"): {"LSTM", "GRU"},
    ("onnxruntime", "Segmenter"): {"ConvTranspose"},
    ("fbgemm", "Recurrent"): {"lstm", "gru"},
    ("fbgemm", "Segmenter"): {"conv_transpose"},
    ("qnnpack", "Recurrent"): {"lstm", "gru"},
    ("tflite", "Recurrent"): {"UNIDIRECTIONAL_SEQUENCE_LSTM"},
} | {
    (engine, name): {"scaled_dot_product_attention"}  # of nn.MultiheadAttention
    for engine in ("fbgemm", "qnnpack")
    for name in ("Transformer", "Text")
}
"""What multiplies matrices and yet stays float in an int8 artifact; everything else must be int8."""
SAMPLES = 16
INT8 = [
    pytest.param(name, backend, marks=[pytest.mark.slow] if (name, backend) in LONG or backend == "fbgemm" else [])
    for backend in TARGETS
    for name in FAMILIES.INPUTS
]
"""By default without fbgemm, whose lowering qnnpack shares, and the longest."""

torch.set_num_threads(1)


@dataclass(frozen=True)
class Family:
    """A float model on disk, its calibration spool, and what it answers to other samples."""

    model: Path
    spool: Path
    samples: tuple[dict[str, Array], ...]
    expected: tuple[dict[str, Array], ...]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One process that compiles, as the build's do: TensorFlow is not imported here, and there only once."""
    with Worker(log=tmp_path_factory.mktemp("worker") / "log", what="families") as worker:
        yield worker


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    """Make each model once."""
    return cache(lambda name: _make(FAMILIES, name, tmp_path_factory.mktemp(name)))


def _make(models: ModuleType, name: str, folder: Path) -> Family:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(models, name)().eval()
    random = np.random.default_rng(0)
    calibration, samples = ([_draw(name, random) for _ in range(SAMPLES)] for _ in range(2))
    expected = []
    with torch.no_grad():
        for sample in samples:
            answers = tensors_of(module(*map(torch.from_numpy, sample.values())))
            expected.append({f"output_{k}": answer.numpy().copy() for k, answer in enumerate(answers)})
    inputs = _specs(samples[0])
    traced = trace(module, tuple(map(torch.from_numpy, samples[0].values())))
    assert traced.graph is not None, traced.untraceable
    source = ModelSource(format="python", path="models.py", sha256="0" * 64)
    store.save(FloatModel(name, source, inputs, _specs(expected[0]), graph=traced.graph), folder / "model")
    spool = folder / "spool"
    spool.mkdir()
    for k, item in enumerate(inputs):
        np.save(spool / f"{k}.npy", np.stack([sample[item.name] for sample in calibration]))
    write_index(
        spool, inputs, digests=[bytes(32)] * SAMPLES, indices=range(SAMPLES), labels=None, origin="test", notes=()
    )
    return Family(folder / "model", spool, tuple(samples), tuple(expected))


def _draw(name: str, random: np.random.Generator) -> dict[str, Array]:
    return {
        key: random.integers(0, 100, shape) if key == "ids" else random.standard_normal(shape).astype(np.float32)
        for key, shape in FAMILIES.INPUTS[name].items()
    }


def _specs(tensors: dict[str, Array]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=k, shape=v.shape, dtype=v.dtype.name) for k, v in tensors.items())  # type: ignore[arg-type]


def _check(
    made: Family, backend_name: str, precision: str, compiler: Worker, folder: Path
) -> tuple[Artifact, tuple[OpRecord, ...]]:
    """Compile, compare with float in every runtime, and give back what the last one executes."""
    target = load_target(f"{TARGETS[backend_name]}-{precision}", folder).target
    index = [emit.backend for emit in target.emit].index(backend_name)
    options = CompilerOptions(
        target=target,
        emit=index,
        calibration=made.spool if precision == "int8" else None,
        work=folder / "work",
        seed=0,
        threads=1,
    )
    request = CompileRequest(model=made.model, recipe=Recipe(), precision=target.precision, out=folder / "out")
    (folder / "work").mkdir()
    (folder / "out").mkdir()
    compiler.create("edgec.ladder.compiler:ArtifactCompiler", options)
    artifact = compiler.ask("compile", request, CompileAnswer).value.artifact
    backend = get_backend(backend_name)
    ops: tuple[OpRecord, ...] = ()
    for runtime in backend.runtimes(target, target.emit[index]):
        runner = backend.runner(artifact, folder / "out" / artifact.file, runtime.name, 1)
        given = [runner(sample) for sample in made.samples]
        for output in made.expected[0]:
            exact = np.stack([item[output] for item in made.expected])
            found = _sqnr_db(exact, np.stack([item[output] for item in given]))
            assert found >= LEAST_DB[precision], f"{runtime.name}, {output}: {found:.1f} dB"
        ops = tuple(runner.ops())
    return artifact, ops


def _sqnr_db(exact: Array, given: Array) -> float:
    assert exact.shape == given.shape
    error = (exact - given).astype(np.float64)
    return float(10 * np.log10((exact.astype(np.float64) ** 2).sum() / max((error**2).sum(), 1e-30)))


@pytest.mark.parametrize(("name", "backend"), INT8)
def test_int8_is_near_to_float_and_names_what_is_not_int8(
    name: str, backend: str, family: Callable[[str], Family], compiler: Worker, tmp_path: Path
) -> None:
    artifact, ops = _check(family(name), backend, "int8", compiler, tmp_path)
    in_float = [op for op in ops if op.dtype == "float32" and any(word in op.op.lower() for word in FAMILIES.PRODUCTS)]
    assert {op.op for op in in_float} == FLOAT_PRODUCTS.get((backend, name), set())
    assert all(op.reason for op in in_float)
    told = Counter(item.reason for item in artifact.coverage)  # files name no layers, so that ops are counted
    # what edgec itself keeps from a quantizer is told by its layer alone
    reasons = ((op.op, op.reason) for op in ops if op.reason)
    assert Counter(reason if reason in told else f"{op}: {reason}" for op, reason in reasons) <= told


@pytest.mark.slow  # int8 artifacts come from the same float graphs
@pytest.mark.parametrize("name", FAMILIES.INPUTS)
@pytest.mark.parametrize("backend", ["onnxruntime", "qnnpack"])  # fbgemm is the same; TFLite compares itself
def test_fp32_is_float(
    name: str, backend: str, family: Callable[[str], Family], compiler: Worker, tmp_path: Path
) -> None:
    _check(family(name), backend, "fp32", compiler, tmp_path)
