"""Rewrites of the ONNX graph keep the function, judged by ONNX Runtime."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgec.backends.tflite.onnx_graph import simplify
from edgec.backends.tflite.rewrites import FOLDS, FORMS, rewrite
from edgec.backends.tflite.rewrites.branches_to_where import branches_to_where
from edgec.backends.tflite.rewrites.fold_factors import fold_factors
from edgec.backends.tflite.rewrites.last_states import last_states
from edgec.backends.tflite.rewrites.recurrent_steps import recurrent_steps, written_out
from edgec.backends.tflite.rewrites.split_directions import split_directions
from edgec.model.spec import Array

FLOAT = onnx.TensorProto.FLOAT


def answers(model: Any, fed: dict[str, Array]) -> list[Array]:
    """What ONNX Runtime gives."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, fed))


def kinds(model: Any) -> list[str]:
    """The ops of a graph."""
    return [node.op_type for node in model.graph.node]


def assert_same(model: Any, changed: Any, fed: dict[str, Array]) -> None:
    """Both compute the same."""
    for want, got in zip(answers(model, fed), answers(changed, fed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def apply(model: Any, step: Callable[[Any], int]) -> tuple[Any, int]:
    """A copy after one rewrite, and how often it applied."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    return changed, step(changed)


class Recurrent(nn.Module):
    """A recurrent layer, of whose results some are returned; states are given or not."""

    def __init__(self, kind: str, both: bool, results: int) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, bidirectional=both)
        self.kind, self.results = kind, results

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = (states if self.kind == "LSTM" else states[0]) if states else None
        sequence, last = self.layer(x, given)
        return (sequence, *(last if self.kind == "LSTM" else (last,)))[: self.results]


def recurrent(kind: str, both: bool, results: int, given: bool = False) -> tuple[Any, dict[str, Array]]:
    """The ONNX graph of a `Recurrent`, its shapes known, and inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Recurrent(kind, both, results).eval()
        x = torch.randn(5, 2, 3)
        states = tuple(torch.randn(2 if both else 1, 2, 4) for _ in range((2 if kind == "LSTM" else 1) * given))
    names = ["x", *(f"state{k}" for k in range(len(states)))]
    buffer = io.BytesIO()
    torch.onnx.export(module, (x, *states), buffer, dynamo=False, opset_version=17, input_names=names)
    model = simplify(onnx.load_from_string(buffer.getvalue()))
    return model, {name: value.numpy() for name, value in zip(names, (x, *states), strict=True)}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_last_hidden_state_is_taken_from_the_sequence(kind: str, both: bool) -> None:
    model, fed = recurrent(kind, both, results=2)
    changed, count = apply(model, last_states)
    assert count == 1
    assert not any(len(node.output) > 1 and node.output[1] for node in changed.graph.node if node.op_type == kind)
    assert_same(model, changed, fed)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("kind", "given"), [("LSTM", False), ("LSTM", True), ("GRU", False), ("GRU", True)])
def test_recurrent_ops_are_written_out(kind: str, given: bool, both: bool) -> None:
    model, fed = recurrent(kind, both, results=3, given=given)
    changed, count = apply(model, recurrent_steps)
    assert count == 1
    assert kind not in kinds(changed)
    assert_same(model, changed, fed)
    (told,) = written_out(changed)
    size = sum(node.name.startswith("unrolled_step/") for node in changed.graph.node)
    assert (told.state, told.reason.partition(":")[0]) == ("unrolled", f"to {size} ops")


def test_gate_before_the_product_is_written_out_too() -> None:
    model, fed = recurrent("GRU", False, results=2)
    node = next(node for node in model.graph.node if node.op_type == "GRU")
    next(item for item in node.attribute if item.name == "linear_before_reset").i = 0
    changed, count = apply(model, recurrent_steps)
    assert count == 1
    assert_same(model, changed, fed)


def test_lstm_that_tflite_has_a_fused_op_for_stays() -> None:
    model, fed = recurrent("LSTM", True, results=2)
    changed = rewrite(rewrite(model, FOLDS), FORMS)
    assert kinds(changed).count("LSTM") == 2
    assert_same(model, changed, fed)
    assert apply(changed, split_directions)[1] == apply(changed, recurrent_steps)[1] == 0


def graph(nodes: list[Any], shape: list[int], made: list[int], constants: dict[str, Array]) -> Any:
    """A model from `x` to `y`."""
    held = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, FLOAT, size) for name, size in (("x", shape), ("y", made))]
    proto = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


RANDOM = np.random.default_rng(0)
CONV = {"w": RANDOM.standard_normal((4, 3, 3, 3)), "b": RANDOM.standard_normal(4)}


@pytest.mark.parametrize("factor", [np.array(4.0), RANDOM.standard_normal((4, 1, 1)), np.full((1, 1, 1, 1), 0.5)])
@pytest.mark.parametrize("kind", ["Mul", "Div"])
def test_factors_go_into_the_weights(kind: str, factor: Array) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node(kind, ["c", "f"], ["y"])]
    model = graph(nodes, [1, 3, 6, 6], [1, 4, 4, 4], CONV | {"f": factor})
    changed, count = apply(model, fold_factors)
    assert (count, kinds(changed)) == (1, ["Conv"])
    assert_same(model, changed, {"x": RANDOM.standard_normal((1, 3, 6, 6)).astype(np.float32)})


def test_factors_along_other_axes_stay() -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Mul", ["c", "f"], ["y"])]
    model = graph(nodes, [1, 3, 6, 6], [1, 4, 4, 4], CONV | {"f": RANDOM.standard_normal(4)})
    assert apply(model, fold_factors)[1] == 0


def test_branch_that_hands_its_input_through() -> None:
    info = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 6, 6]) for name in ("t", "e")]
    through = helper.make_graph([helper.make_node("Identity", ["x"], ["t"])], "then", [], info[:1])
    other = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["e"], pads=[1] * 4)], "else", [], info[1:])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=through, else_branch=other),
    ]
    weights = {"w": RANDOM.standard_normal((3, 3, 3, 3)), "zero": np.array(0.0)}
    model = graph(nodes, [1, 3, 6, 6], [1, 3, 6, 6], weights)
    changed, count = apply(model, branches_to_where)
    assert count == 1
    assert "If" not in kinds(changed)
    for offset in (-1, 1):
        assert_same(model, changed, {"x": (RANDOM.standard_normal((1, 3, 6, 6)) + offset).astype(np.float32)})
