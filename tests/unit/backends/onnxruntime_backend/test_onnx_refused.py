"""One op never fails an artifact: what cannot be int8 stays in float and is told, the rest is int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgec.backends.onnxruntime.refused import REMEMBERED
from edgec.errors import UnsupportedError

from .onnx_builds import build, graph_model
from .onnx_graphs import floats

NODE = helper.make_node


def dilated_pools(count: int) -> onnx.ModelProto:
    """Convolutions, each with an average pool whose dilations have no 8-bit kernel, and a plain pool at the end."""
    nodes, constants, tensor = [], {}, "x"
    for number in range(count):
        constants[f"w{number}"] = floats(4, 4, 3, 3) / 4
        nodes += [
            NODE("Conv", [tensor, f"w{number}"], [f"c{number}"], name=f"conv_{number}", pads=[1] * 4),
            NODE(
                "AveragePool",
                [f"c{number}"],
                [f"p{number}"],
                name=f"dilated_{number}",
                kernel_shape=[2, 2],
                dilations=[2, 2],
                pads=[1] * 4,
            ),
        ]
        tensor = f"p{number}"
    constants["last"] = floats(4, 4, 1, 1)
    nodes.append(NODE("Conv", [tensor, "last"], ["c"], name="last"))
    nodes.append(NODE("AveragePool", ["c"], ["y"], name="plain", kernel_shape=[2, 2], strides=[2, 2]))
    return graph_model(nodes, constants, {"x": (1, 4, 8, 8)}, ["y"], opset=19)


def test_ops_without_a_kernel_stay_float_and_are_told(tmp_path: Path) -> None:
    made = build(dilated_pools(3), "int8", tmp_path / "one")
    assert set(made.refused()) == {"dilated_0", "dilated_1", "dilated_2"}
    assert all("dilations" in reason and "onnxruntime_src" not in reason for reason in made.refused().values())
    kinds = [op.op for op in made.ops()]
    assert kinds.count("QLinearConv") == 4
    assert kinds.count("QLinearAveragePool") == 1
    assert made.worst_db > 25
    again = build(dilated_pools(3), "int8", tmp_path / "two")
    assert again.file.read_bytes() == made.file.read_bytes()
    assert (tmp_path / "one" / "work" / REMEMBERED).is_file()


def test_what_is_refused_throughout_is_refused_with_the_op(tmp_path: Path) -> None:
    nodes = [NODE("Sin", ["x"], ["y"], name="sine")]
    with pytest.raises(UnsupportedError, match="nothing of the model can be quantized") as caught:
        build(graph_model(nodes, {}, {"x": (1, 4)}, ["y"]), "int8", tmp_path / "sine")
    assert "Sin" in caught.value.hint


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (3, 1), (3, 5)], ids=str)
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 3.0, "transB": 1}], ids=["plain", "factors"])
def test_biases_of_every_shape(shape: tuple[int, ...], factors: dict[str, float], tmp_path: Path) -> None:
    weight = floats(5, 8) if factors else floats(8, 5)
    nodes = [NODE("Gemm", ["x", "w", "b"], ["y"], name="product", **factors)]
    model = graph_model(nodes, {"w": weight, "b": floats(*shape)}, {"x": (3, 8)}, ["y"])
    made = build(model, "int8", tmp_path / "int8")
    assert "QGemm" in {op.op for op in made.ops()} or "QLinearMatMul" in {op.op for op in made.ops()}
    assert not made.refused()
    assert made.worst_db > 30


@pytest.mark.parametrize(
    ("inputs", "weight", "x"),
    [(["x", "w"], (2, 8, 5), (2, 3, 8)), (["w", "x"], (4, 8), (8, 5)), (["x", "w"], (8,), (3, 8))],
    ids=["a stack of weights", "on the left", "a list"],
)
def test_products_with_constants_of_every_form(
    inputs: list[str], weight: tuple[int, ...], x: tuple[int, ...], tmp_path: Path
) -> None:
    nodes = [
        NODE("MatMul", inputs, ["p"], name="product"),
        NODE("Relu", ["p"], ["r"]),
        NODE("Reshape", ["r", "flat"], ["f"]),
        NODE("Gemm", ["f", "v"], ["y"], name="head"),
    ]
    size = int(np.prod(np.matmul(*({"x": np.ones(x), "w": np.ones(weight)}[name] for name in inputs)).shape))
    constants = {"w": floats(*weight), "flat": np.array([1, -1]), "v": floats(size, 4)}
    made = build(graph_model(nodes, constants, {"x": x}, ["y"]), "int8", tmp_path / "int8")
    assert made.worst_db > 30
    assert {"QLinearMatMul", "QGemm"} & {op.op for op in made.ops()}


def test_outputs_that_are_inputs_or_constants(tmp_path: Path) -> None:
    nodes = [NODE("Gemm", ["x", "w"], ["y"], name="product")]
    model = graph_model(nodes, {"w": floats(8, 4)}, {"x": (1, 8)}, ["y", "x", "w"])
    made = build(model, "int8", tmp_path / "int8")
    assert made.worst_db > 30
    assert [item.name for item in made.artifact.outputs] == ["y", "x", "w"]


def test_symbolic_shape_inference_leaves_nothing_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    nodes = [
        NODE("MatMul", ["x", "w"], ["m"], name="product"),
        NODE("Compress", ["m", "which"], ["y"], axis=1),
    ]
    constants = {"w": floats(8, 4), "which": np.array([True, False, True, True])}
    made = build(graph_model(nodes, constants, {"x": (2, 8)}, ["y"]), "int8", tmp_path / "int8")
    assert made.worst_db > 30
    assert list(Path().iterdir()) == []
