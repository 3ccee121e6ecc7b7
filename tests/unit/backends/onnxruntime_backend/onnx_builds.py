"""Whole builds of ONNX graphs by this backend, with random samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from edgec.backends.interface import Artifact, OpRecord, Runner
from edgec.backends.onnxruntime.backend import BACKEND
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.target.spec import Emit, Precision

SAMPLES = 6


@dataclass(frozen=True)
class Build:
    """An artifact, and how near it comes to the float graph.

    Attributes:
        worst_db: SQNR of the worst float output over all samples.
        coverage: of all passes.
    """

    artifact: Artifact
    file: Path
    runner: Runner
    worst_db: float
    coverage: tuple[Coverage, ...]

    def ops(self) -> Sequence[OpRecord]:
        return self.runner.ops()

    def refused(self) -> dict[str, str]:
        return {item.subject: item.reason for item in self.coverage if "cannot take it" in item.reason}


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of float inputs and outputs, which need no shapes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def random_samples(proto: onnx.ModelProto, count: int = SAMPLES) -> list[dict[str, Array]]:
    """For the inputs that are no constants."""
    constant = {item.name for item in proto.graph.initializer}
    shapes = {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in proto.graph.input
        if item.name not in constant
    }
    random = np.random.default_rng(3)
    return [
        {name: np.asarray(random.normal(size=shape), np.float32) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def answers(proto: onnx.ModelProto, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """The float graph's, as ONNX Runtime computes them without optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(sample)), strict=True)) for sample in samples]


def sqnr(wanted: Array, got: Array) -> float:
    noise = float(np.square(wanted.astype(np.float64) - got).sum())
    return 200.0 if noise == 0 else 10 * float(np.log10(np.square(wanted.astype(np.float64)).sum() / noise))


def build(
    proto: onnx.ModelProto,
    precision: Precision,
    folder: Path,
    *,
    samples: Sequence[dict[str, Array]] | None = None,
    wanted: Sequence[Mapping[str, Array]] | None = None,
) -> Build:
    """Lower, run the passes of the plainest recipe, emit, and run all samples.

    Args:
        proto: the float graph, as a user's file.
        precision: to build for, on an x86-64 without int8 dot products (which every machine computes alike).
        folder: new; takes all files.
        samples: random ones where not given.
        wanted: the outputs of `samples`; ONNX Runtime's where not given.
    """
    folder.mkdir(parents=True)
    samples = random_samples(proto) if samples is None else samples
    wanted = answers(proto, samples) if wanted is None else wanted
    inputs = tuple(TensorSpec(name=key, shape=item.shape, dtype=str(item.dtype)) for key, item in samples[0].items())
    outputs = tuple(TensorSpec(name=key, shape=item.shape, dtype=str(item.dtype)) for key, item in wanted[0].items())
    source = folder / "source.onnx"
    source.write_bytes(proto.SerializeToString())
    model = FloatModel("net", ModelSource(format="onnx", path="m.onnx", sha256="0"), inputs, outputs, onnx=source)
    target = load_target("x86-64-int8", folder).target
    target = target.model_copy(update={"precision": precision, "emit": (Emit(backend="onnxruntime"),)})
    work = folder / "work"
    work.mkdir()
    spool = _spool(folder / "spool", inputs, samples)
    context = PassContext(target, work, spool, emit=target.emit[0])
    lowered = BACKEND.lower(model, context)
    steps = BACKEND.passes(target, target.emit[0], Recipe())
    quantized, records = run_passes(steps, lowered, context, BACKEND.fingerprint)
    artifact = BACKEND.emit(quantized, context, folder / "out")
    file = folder / "out" / artifact.file
    runner = BACKEND.runner(artifact, file, "onnxruntime", 1)
    found = [runner(sample) for sample in samples]
    for before, after in zip(wanted, found, strict=True):
        assert {name: (item.shape, item.dtype) for name, item in before.items()} == {
            name: (item.shape, item.dtype) for name, item in after.items()
        }
    floats = [name for name, item in wanted[0].items() if item.dtype.kind == "f" and item.size]
    worst = min(
        (sqnr(np.stack([item[name] for item in wanted]), np.stack([item[name] for item in found])) for name in floats),
        default=200.0,
    )
    return Build(artifact, file, runner, worst, tuple(item for record in records for item in record.coverage))


def _spool(folder: Path, inputs: tuple[TensorSpec, ...], samples: Sequence[Mapping[str, Array]]) -> Spool:
    folder.mkdir()
    for number, spec in enumerate(inputs):
        np.save(folder / f"{number}.npy", np.stack([sample[spec.name] for sample in samples]))
    info = SpoolInfo(inputs=inputs, samples=len(samples), has_labels=False, content_digest="0", origin="random")
    (folder / "spool.json").write_text(info.model_dump_json())
    return Spool(folder)
