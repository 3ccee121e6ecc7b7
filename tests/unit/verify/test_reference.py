"""What the float model is run as, and that a graph which is not the ONNX file's is found out on real samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import fx, nn

from edgec.model.load import load_model
from edgec.model.spec import FloatModel
from edgec.project.spec import ModelSpec
from edgec.verify.reference import float_outputs, with_right_graph

SAMPLES = [{"x": np.full((1, 3), value, np.float32)} for value in (-2.0, 5.0)]


@pytest.fixture
def relu(tmp_path: Path) -> FloatModel:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    return load_model(ModelSpec(path="m.onnx"), tmp_path)


class Capped(nn.Module):
    """A ReLU on what random samples are, another function beyond."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(0, 4)


def test_a_graph_that_is_right_stays(relu: FloatModel) -> None:
    assert with_right_graph(relu, SAMPLES, 1) is relu


def test_a_graph_that_is_wrong_on_a_real_sample_is_dropped(relu: FloatModel, tmp_path: Path) -> None:
    capped = fx.symbolic_trace(Capped())
    wrong = replace(relu, graph=capped, module=capped)
    assert with_right_graph(wrong, SAMPLES[:1], 1) is wrong
    found = with_right_graph(wrong, SAMPLES, 1)
    assert found.graph is None
    assert "14 dB from it on a real sample" in found.untraceable
    assert np.array_equal(float_outputs(wrong, SAMPLES, tmp_path / "out", 1)["y"][1], SAMPLES[1]["x"])
