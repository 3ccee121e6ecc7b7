"""The whole way through the real toolchain: compiled in a worker, run in both interpreters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.backends.tflite.backend import BACKEND
from edgec.backends.tflite.flatbuffer import read_ops
from edgec.backends.tflite.layout import sqnr_db
from edgec.errors import UnsupportedError
from edgec.target.spec import Precision

from .conftest import Compiled, Toolchain, make_case

RUNTIMES = ("ai-edge-litert", "tflite-runtime")
LEAST_DB = {"fp32": 100.0, "fp16": 55.0, "int8-dynamic": 40.0, "int8": 27.0}
Get = Callable[[str, Precision], Compiled]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("vision", "fp16"),
        ("vision", "int8-dynamic"),
        ("vision", "int8"),
        ("attention", "int8"),
        ("mish", "int8"),
        ("scalars", "fp32"),
        ("scalars", "int8"),
        ("sequence", "fp32"),
        ("sequence", "fp16"),
        ("sequence", "int8-dynamic"),
        ("sequence", "int8"),
    ],
)
def test_artifact_computes_the_float_model(compiled: Get, name: str, precision: Precision, runtime: str) -> None:
    made = compiled(name, precision)
    case = make_case(name)
    run = BACKEND.runner(made.artifact, made.file, runtime, 1)
    answers = [run(sample) for sample in case.samples]
    for spec in case.model.outputs:
        got = [answer[spec.name] for answer in answers]
        assert got[0].shape == spec.shape
        assert sqnr_db([item[spec.name] for item in case.expected], got) > LEAST_DB[precision]


def test_bindings_follow_the_tflite_convention(compiled: Get) -> None:
    made = compiled("vision", "int8")
    image, ids = made.artifact.inputs
    assert (image.artifact_name, image.shape, image.permutation) == ("image", (1, 12, 10, 3), (0, 2, 3, 1))
    assert (ids.name, ids.artifact_name, ids.permutation, ids.dtype) == ("token.ids", "token_ids", None, "int64")
    features, logits = made.artifact.outputs
    assert features.shape == (1, 6, 5, 16)
    assert features.permutation == (0, 3, 1, 2)
    assert logits.permutation is None
    assert logits.step is not None
    assert 0 < logits.step < 0.1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_audit_reads_int8_arithmetic_from_the_file(compiled: Get, runtime: str) -> None:
    made = compiled("vision", "int8")
    ops = BACKEND.runner(made.artifact, made.file, runtime, 1).ops()
    found = {op.op: op.dtype for op in ops}
    assert found["CONV_2D"] == found["DEPTHWISE_CONV_2D"] == found["FULLY_CONNECTED"] == "int8"
    assert [op for op in ops if op.reason] == []
    assert len(ops) == len(read_ops(made.file.read_bytes()))


def test_convolution_weights_have_a_scale_per_channel(compiled: Get) -> None:
    made = compiled("vision", "int8")
    weights = [op.inputs[1] for op in read_ops(made.file.read_bytes()) if op.op == "CONV_2D"]
    assert weights
    assert all(item.dtype == "int8" and item.scale is None for item in weights)


def test_small_weights_that_stay_float_are_told(compiled: Get) -> None:
    made = compiled("vision", "int8-dynamic")
    left = {item.subject: item.reason for item in made.artifact.coverage}
    assert "fewer than 1024 elements" in left["DEPTHWISE_CONV_2D"]


def test_fp16_says_that_it_is_storage_only(compiled: Get) -> None:
    made = compiled("vision", "fp16")
    arithmetic, small = made.artifact.coverage
    assert (arithmetic.subject, arithmetic.state) == ("all arithmetic", "float32")
    assert "the smallest tensors" in small.reason


def test_equal_input_gives_equal_bytes(compiled: Get, toolchain: Toolchain, tmp_path: Path) -> None:
    first, again = compiled("vision", "int8").file, toolchain.compile("vision", "int8", fresh="-again").file
    assert first.read_bytes() == again.read_bytes()
    assert str(tmp_path.parent).encode() not in again.read_bytes()


def test_what_has_no_int8_form_stays_float_and_is_told(compiled: Get) -> None:
    told = {item.subject: item.reason for item in compiled("mish", "int8").artifact.coverage}
    assert "no int8 kernel" in told["LOG"]
    assert "logarithm's argument" in told["EXP"]


def test_recurrent_ops_are_fused_or_told(compiled: Get) -> None:
    made = compiled("sequence", "int8")
    found = [op.op for op in read_ops(made.file.read_bytes())]
    assert found.count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 3
    told = {item.subject: item for item in made.artifact.coverage}
    assert told["gates"].state == "unrolled"
    assert "no int8 form" in told["last (UNIDIRECTIONAL_SEQUENCE_LSTM)"].reason


def test_op_without_tflite_form_is_named(toolchain: Toolchain) -> None:
    with pytest.raises(
        UnsupportedError, match=r"direct converter has no form of Det \(node .*; .* way of TensorFlow"
    ) as caught:
        toolchain.compile("determinant", "fp32")
    assert caught.value.hint


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runner_tells_that_a_file_is_refused(compiled: Get, tmp_path: Path, runtime: str) -> None:
    made = compiled("vision", "int8")
    broken = tmp_path / "model.tflite"
    broken.write_text("not a flatbuffer, though long enough to look for one in")
    with pytest.raises(UnsupportedError, match=f"{runtime} refuses the file"):
        BACKEND.runner(made.artifact, broken, runtime, 1)


def test_unknown_runtime_is_refused(compiled: Get) -> None:
    made = compiled("vision", "int8")
    with pytest.raises(UnsupportedError, match="ai-edge"):
        BACKEND.runner(made.artifact, made.file, "ai-edge", 1)
