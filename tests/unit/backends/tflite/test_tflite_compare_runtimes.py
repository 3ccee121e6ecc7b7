"""Where two interpreters of one file part, with a kernel that the older one has wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.backends.interface import Artifact, RuntimeComparer, TensorBinding
from edgec.backends.tflite.backend import BACKEND, LITERT, TFLITE_RUNTIME
from edgec.backends.tflite.compare_runtimes import first_difference
from edgec.backends.tflite.runner import LiteRunner

SAMPLES = [{"x": row[None]} for row in np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)]
ARTIFACT = Artifact(
    backend="tflite",
    format="tflite",
    file="model.tflite",
    precision="int8-dynamic",
    inputs=(TensorBinding(name="x", artifact_name="x", shape=(1, 8), dtype="float32"),),
    outputs=(TensorBinding(name="y", artifact_name="y", shape=(1, 4), dtype="float32"),),
)


def program(scales: list[float]) -> bytes:
    """A float layer, then one whose int8 weights have these scales, one for each channel or one for all.

    tflite-runtime 2.14 has no kernel for float inputs and a scale for each channel, and does not notice: it answers
    with zeros where the op's version is that of an older converter.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(1)
    kinds, model, graph = schema.TensorType, schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers = 3, [schema.BufferT()]

    def tensor(name: str, shape: tuple[int, ...], kind: int, values: np.ndarray | None = None) -> schema.TensorT:
        made = schema.TensorT()
        made.name, made.shape, made.type = name, list(shape), kind
        if values is not None:
            made.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        return made

    codes = tensor("codes", (4, 8), kinds.INT8, rng.integers(-127, 128, (4, 8)).astype(np.int8))
    codes.quantization = schema.QuantizationParametersT()
    codes.quantization.scale, codes.quantization.zeroPoint = scales, [0] * len(scales)
    floats = tensor("floats", (8, 8), kinds.FLOAT32, rng.normal(size=(8, 8)).astype(np.float32))
    graph.tensors = [
        tensor("x", (1, 8), kinds.FLOAT32), floats, tensor("hidden", (1, 8), kinds.FLOAT32), codes,
        tensor("y", (1, 4), kinds.FLOAT32),
    ]  # fmt: skip
    graph.operators, graph.inputs, graph.outputs = [], [0], [4]
    for inputs, outputs in (([0, 1, -1], [2]), ([2, 3, -1], [4])):
        op = schema.OperatorT()
        op.inputs, op.outputs = inputs, outputs
        op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        op.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(op)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 9
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ARTIFACT.file


def test_the_op_is_named_that_one_runtime_has_wrong(file: Path) -> None:
    file.write_bytes(program([0.001, 0.1, 0.01, 1.0]))
    right, wrong = (LiteRunner(ARTIFACT, file, name, 1)(SAMPLES[0])["y"] for name in (LITERT, TFLITE_RUNTIME))
    assert right.all()
    assert not wrong.any()
    found = first_difference(ARTIFACT, file, LITERT, TFLITE_RUNTIME, SAMPLES, 1)
    assert found is not None
    assert (found.op, found.name) == ("FULLY_CONNECTED", "y")
    assert found.before_db > 90
    assert found.sqnr_db < 1


def test_no_op_is_named_where_both_compute_the_same(file: Path) -> None:
    file.write_bytes(program([0.01]))
    assert first_difference(ARTIFACT, file, LITERT, TFLITE_RUNTIME, SAMPLES, 1) is None


def test_the_backend_says_that_it_can_tell() -> None:
    assert isinstance(BACKEND, RuntimeComparer)
