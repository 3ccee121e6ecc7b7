"""Users' names of layers, the same whichever backend asks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgec.backends.layer_names import layer_path, module_path, unique_names
from edgec.backends.onnxruntime.layers import find_all_layers, find_layers
from edgec.backends.tflite.module_paths import find_products


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("/inner/blocks/blocks.3/conv/Conv", "blocks.3.conv"),
        ("fused /inner/stem.0/Conv", "stem.0"),
        ("/encoder/layers.0/MatMul_1", "encoder.layers.0"),
        ("/inner/fc/MatMul/MatMulAddFusion", "fc"),
        ("/inner/MatMul", ""),
        ("Conv_5", ""),
    ],
)
def test_module_path_of_a_node(node: str, path: str) -> None:
    assert module_path(node) == path


def test_path_of_a_layer_is_its_weights_if_known() -> None:
    assert layer_path("/inner/outer/Gemm", "inner.outer.fc.weight", "Gemm") == "outer.fc"
    assert layer_path("/inner/outer/Gemm", "onnx::MatMul_7", "Gemm") == "outer"
    assert layer_path("/inner/MatMul_3", "", "MatMul") == "MatMul_3"
    assert layer_path("", "", "MatMul") == "matmul"


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["a", "b", "a", "a"], ["a", "b", "a_1", "a_2"]),
        (["conv", "conv", "conv_1"], ["conv", "conv_2", "conv_1"]),
        (["a", "b", "a", "a_1", "a_1"], ["a", "b", "a_2", "a_1", "a_1_1"]),
        (["a;b", "a@b", "a_b"], ["a_b", "a_b_1", "a_b_2"]),
    ],
)
def test_names_are_made_unique(names: list[str], unique: list[str]) -> None:
    assert unique_names(names) == unique


class Shared(nn.Module):
    """A module called twice, and an embedding tied to a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.mix, self.last, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mix(self.mix(self.embed(x)).relu()).relu()
        result: torch.Tensor = self.head(self.last(y))
        return result


def test_backends_call_layers_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "net.onnx"
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(Shared().eval(), (torch.tensor([[1, 2, 3]]),), str(file), dynamo=False)
    theirs = [item.name for item in find_products(onnx.load(file))]
    assert theirs == ["mix", "mix_1", "last", "head"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    ours = find_layers(onnx.load(tmp_path / "optimized.onnx"))
    assert [item.name for item in ours if item.op != "embedding"] == theirs


def test_a_layer_keeps_its_name_when_others_are_quantized() -> None:
    weights = {"q": np.ones((4, 4), np.int8), "scale": np.float32(1), "w": np.ones((4, 4), np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["q_float"], "dequantize"),
        helper.make_node("MatMul", ["x", "q_float"], ["a"], "/inner/twice/MatMul"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "/inner/twice/MatMul_1"),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 4]) for name in ("x", "y")]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    proto = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], held))
    assert [item.name for item in find_all_layers(proto)] == ["twice", "twice_1"]
    assert [item.name for item in find_layers(proto)] == ["twice_1"]
