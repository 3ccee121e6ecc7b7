"""Findings about a model: every check runs, whatever is wrong elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.check.model import open_model
from edgec.errors import InputSpecError, ModelError
from edgec.project.spec import InputSpec, ModelSpec

from .conftest import NODES, Look, of_kind, write_net

SPEC = ModelSpec(path="net.onnx")
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)
        self.dense = nn.Linear(4, 3)

    def forward(self, x):
        steps, _ = self.lstm(x)
        if x.sum() > BRANCH:
            steps = -steps
        return self.dense(steps[:, -1])
"""


def test_open_shapes_come_with_the_line_to_add(folder: Path, look: Look) -> None:
    write_net(folder / "net.onnx", shape=("N", 3, "H", "W"), output=("N", 4))
    (wrong,) = of_kind(look(), "input")
    assert 'input "image" is float32[1, 3, H, W]: the shape is not fixed' in wrong.what
    assert 'name = "image", shape = [1, 3, 8, 8]' in wrong.hint
    assert "--input image:1x3x8x8" in wrong.hint
    assert wrong.exit_code == InputSpecError.exit_code


def test_a_misspelt_input(folder: Path) -> None:
    stated = InputSpec(name="imge", shape=(1, 3, 8, 8))
    opened = open_model(SPEC.model_copy(update={"inputs": (stated,)}), folder)
    (wrong,) = opened.findings
    assert (wrong.kind, wrong.hint) == ("input", 'did you mean "image"?')


def test_all_that_is_wrong_with_a_file(folder: Path) -> None:
    quantize = helper.make_node("DynamicQuantizeLinear", ["image"], ["q", "s", "z"], name="q8")
    write_net(folder / "net.onnx", [*NODES, quantize], shape=(1, 3, "H", "W"))
    proto = onnx.load(folder / "net.onnx")
    onnx.save(proto, folder / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").unlink()
    opened = open_model(SPEC, folder)
    words = [item.what for item in opened.findings]
    assert any("external data is missing: weights.bin" in text for text in words)
    assert any("already quantized" in text for text in words)
    assert any("the shape is not fixed" in text for text in words)
    assert opened.model is None
    assert opened.graph is not None
    assert {op.op for op in opened.graph.ops} >= {"Conv", "MatMul"}


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_are_converted_and_reported(folder: Path, kind: int) -> None:
    write_net(folder / "net.onnx", dtype=kind)
    opened = open_model(SPEC, folder)
    assert [(item.severity, item.kind) for item in opened.findings] == [("warning", "model")]
    assert "converted to float32" in opened.findings[0].what
    assert opened.model is not None
    assert opened.inputs[0].dtype == "float32"


def test_integer_inputs_and_control_flow(folder: Path) -> None:
    flag = helper.make_tensor_value_info("image", TensorProto.BOOL, [])
    branches = {
        name: helper.make_graph(
            [helper.make_node("Constant", [], [name], value_float=value)], name, [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [])],
        )
        for name, value in (("then_branch", 1.0), ("else_branch", 2.0))
    }  # fmt: skip
    node = helper.make_node("If", ["image"], ["y"], name="which", **branches)
    graph = helper.make_graph([node], "g", [flag], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    opened = open_model(SPEC, folder)
    checked = {item.kind: item.what for item in opened.findings}
    assert checked == {
        "input": 'input "image" is bool: values go in as they are, without [preprocess] and scale',
        "control-flow": 'control flow: If "which"',
    }


def test_files_that_are_not_there(folder: Path) -> None:
    (folder / "net.py").write_text(NET.replace("BRANCH", "1e9"))
    spec = ModelSpec(path="nett.py:Net", weights="w.pt")
    assert [item.where for item in open_model(spec, folder).findings] == ["nett.py", "w.pt"]
    inputs = (InputSpec(name="x", shape=(1, 5, 8)),)
    opened = open_model(ModelSpec(path="net.py:Net", weights="w.pt", inputs=inputs), folder)
    errors = [item for item in opened.findings if item.severity == "error"]
    assert [item.what for item in errors] == ["no such file"]
    assert opened.model is None
    assert opened.outputs[0].shape == (1, 3)  # the rest of it is known all the same


def test_a_branch_on_data_costs_torch_artifacts_only(folder: Path, look: Look) -> None:
    (folder / "net.py").write_text(NET.replace("BRANCH", "1e9"))
    (folder / "edgec.toml").write_text(
        '[model]\npath = "net.py:Net"\n[[model.inputs]]\nname = "x"\nshape = [1, 5, 8]\n'
        '[calibration]\ndata = "c.npy"\n[evaluation]\ndata = "e.npy"\n'
    )
    random = np.random.default_rng(0)
    for name, count in (("c", 40), ("e", 60)):
        np.save(folder / f"{name}.npy", random.standard_normal((count, 5, 8)).astype(np.float32))
    checked = look("rpi4-int8", "x86-64-vnni-int8")
    assert [item.where for item in of_kind(checked, "op")] == ["model.qnnpack.pt", "model.fbgemm.pt"]
    assert all("net.py:13: `if x.sum() > 1e9:`" in item.what for item in of_kind(checked, "op"))
    assert of_kind(checked, "control-flow", "warning")


def test_code_that_ends_the_process(folder: Path) -> None:
    (folder / "net.py").write_text("import sys\n\ndef net():\n    sys.exit(3)\n")
    spec = ModelSpec(path="net.py:net", inputs=(InputSpec(name="x", shape=(1, 3)),))
    (wrong,) = open_model(spec, folder).findings
    assert "ended the process" in wrong.what


def test_no_model_at_all(folder: Path) -> None:
    (folder / "net.onnx").write_bytes(b"nothing")
    (wrong,) = open_model(SPEC, folder).findings
    assert (wrong.what, wrong.exit_code) == ("not an ONNX model", ModelError.exit_code)
