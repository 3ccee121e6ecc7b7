"""The second way to a TFLite program, where TensorFlow is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from edgec.backends.tflite import by_tensorflow
from edgec.errors import UnsupportedError


def onnx_file(folder: Path, op: str) -> Path:
    """One node from ``input_0`` to ``output_0``."""
    kinds = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in ("input_0", "output_0")
    ]
    node = onnx.helper.make_node(op, ["input_0"], ["output_0"], name="only")
    graph = onnx.helper.make_graph([node], "graph", kinds[:1], kinds[1:])
    file = folder / f"{op}.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), str(file))
    return file


@pytest.mark.parametrize("missing", ["tensorflow", "tf_keras"])
def test_without_tensorflow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UnsupportedError, match=r"TensorFlow is not installed \(pip install 'edgec\[tflite\]'\)"):
        by_tensorflow.convert(onnx_file(tmp_path, "Relu"), [], tmp_path)


def test_without_tensorflow_no_op_is_said_to_have_no_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    by_tensorflow.check_node(onnx_file(tmp_path, "Relu"), "only", tmp_path)


def test_an_op_that_it_never_has_is_named_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UnsupportedError, match=r"has no form of Det \(node only\)"):
        by_tensorflow.convert(onnx_file(tmp_path, "Det"), [], tmp_path)
