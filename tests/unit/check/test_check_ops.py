"""Op x artifact x precision, and memory: derived from the graph, compared with what the backends really do."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from edgec.backends.interface import OpAdviser
from edgec.backends.registry import BUILT_IN, get_backend
from edgec.backends.tflite.advise import NO_FORM
from edgec.check.memory import estimate
from edgec.check.ops import is_weighty
from edgec.errors import UnsupportedError
from edgec.model.graph_ops import GraphOp, OpGraph
from edgec.model.onnx_torch.refused import NOT_CONVERTED, REFUSED
from edgec.target.load import load_target
from edgec.target.spec import Emit

from .conftest import NODES, Look, of_kind, write_net


def test_a_refused_op_with_its_artifacts_and_node(folder: Path, look: Look) -> None:
    draw = helper.make_node("Bernoulli", ["scores"], ["drawn"], name="draw")
    write_net(folder / "net.onnx", [*NODES, draw], name="drawn")
    checked = look("rpi4-int8", "x86-64-vnni-fp32")
    wrong = of_kind(checked, "op")
    assert {(item.where, item.exit_code) for item in wrong} == {
        ("model.tflite, model.qnnpack.pt, int8", UnsupportedError.exit_code),
        ("model.fbgemm.pt, model.tflite, fp32", UnsupportedError.exit_code),
    }
    assert all(
        item.what.startswith("Bernoulli (draw): the artifact will be missing: its result is random") for item in wrong
    )
    assert all(is_weighty(item) for item in wrong)


def test_alike_ops_are_reported_once(folder: Path, look: Look) -> None:
    more = [helper.make_node("Softplus", [name], [f"{name}s"], name=f"soft_{name}") for name in ("scores", "scoress")]
    write_net(folder / "net.onnx", [*NODES, *more], name="scoresss")
    checked = of_kind(look("rpi4-int8", "x86-64-vnni-int8"), "op", "warning")
    by_place = {item.where: item.what for item in checked}
    assert set(by_place) == {
        "model.tflite, int8", "model.qnnpack.pt, model.fbgemm.pt, int8", "model.onnx, int8",
    }  # fmt: skip
    assert all("Softplus (soft_scores, soft_scoress)" in text and "kept in float" in text for text in by_place.values())
    assert not any(is_weighty(item) for item in checked)
    assert not of_kind(look("rpi4-fp32"), "op", "warning")


@pytest.mark.parametrize(
    ("backend", "precision", "op", "words"),
    [
        ("fbgemm", "int8", "LSTM", "dynamically only"),
        ("fbgemm", "int8", "GRU", "dynamically only"),
        ("fbgemm", "int8", "RNN", "plain RNN"),
        ("fbgemm", "int8", "ConvTranspose", "x86 kernels"),
        ("fbgemm", "int8", "PRelu", "PReLU"),
        ("fbgemm", "int8-dynamic", "Conv", "Linear, LSTM and GRU only"),
        ("fbgemm", "fp32", "Loop", "step by step"),
        ("onnxruntime", "int8", "LSTM", "int8-dynamic has one"),
        ("onnxruntime", "int8", "GRU", "GRU"),
        ("onnxruntime", "int8", "ConvTranspose", "transposed"),
        ("onnxruntime", "int8", "Softmax", "256 steps"),
        ("onnxruntime", "int8-dynamic", "Conv", "signed weights"),
        ("onnxruntime", "int8", "If", "branches and loops"),
        ("tflite", "int8", "LSTM", "fused op"),
        ("tflite", "int8", "Log", "256 steps"),
        ("tflite", "fp32", "GRU", "step by step"),
        ("tflite", "int8", "Loop", "cannot be observed"),
        ("tflite", "int8-dynamic", "ConvTranspose", "float activations"),
    ],
)
def test_what_is_known_of_an_op(backend: str, precision: str, op: str, words: str) -> None:
    (checked,) = _problems(backend, precision, GraphOp("node", op, inputs=("a",), outputs=("b",), axes=2))
    assert (checked.node, checked.op, checked.refused) == ("node", op, False)
    assert words in checked.reason


@pytest.mark.parametrize("backend", ["fbgemm", "onnxruntime", "tflite"])
@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul", "Relu", "Add", "MaxPool", "Reshape", "Concat", "Swish"])
def test_what_int8_takes_is_not_reported(backend: str, op: str) -> None:
    checked = _problems(backend, "int8", GraphOp("node", op, inputs=("a",), outputs=("b",), axes=2))
    assert not [item for item in checked if not (backend == "fbgemm" and op == "Swish")]


def test_a_norm_is_reported_unless_it_is_folded_away() -> None:
    conv = GraphOp("conv", "Conv", inputs=("a",), outputs=("b",), axes=2)
    norm = GraphOp("norm", "BatchNormalization", inputs=("b",), outputs=("c",))
    assert not _problems("onnxruntime", "int8", conv, norm)
    relu = GraphOp("relu", "Relu", inputs=("c",), outputs=("d",))
    later = GraphOp("later", "BatchNormalization", inputs=("d",), outputs=("e",))
    assert [item.node for item in _problems("onnxruntime", "int8", conv, norm, relu, later)] == ["later"]


def test_a_division_by_a_root_has_an_int8_form() -> None:
    root = GraphOp("root", "Sqrt", inputs=("v",), outputs=("r",))
    divided = GraphOp("divided", "Div", inputs=("a", "r"), outputs=("b",))
    assert not _problems("tflite", "int8", root, divided)
    plain = GraphOp("plain", "Div", inputs=("a", "v"), outputs=("b",))
    assert [item.node for item in _problems("tflite", "int8", root, plain)] == ["root", "plain"]


def test_ops_of_foreign_domains_are_refused() -> None:
    op = GraphOp("node", "Mine", domain="com.acme", inputs=("a",), outputs=("b",))
    for backend in ("fbgemm", "tflite"):
        (checked,) = _problems(backend, "fp32", op)
        assert checked.refused
        assert "com.acme" in checked.reason


def test_builtin_backends_advise() -> None:
    assert [name for name in BUILT_IN if isinstance(get_backend(name), OpAdviser)] == [
        "fbgemm", "qnnpack", "onnxruntime", "tflite",
    ]  # fmt: skip


def test_tables_are_those_of_the_converters() -> None:
    """Every op that has a torch form, or a TFLite form by either way, is in no table of refusals, and the other way."""
    from onnx2tf.tflite_builder.op_registry import get_dispatch_registry

    from edgec.model.onnx_torch.table import CONVERTERS

    schemas = onnx.defs.get_all_schemas_with_history()
    quantized = {"ConvInteger", "MatMulInteger", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    known = {item.name for item in schemas if item.domain == ""} - quantized
    known = {name for name in known if not name.startswith("QLinear")}
    assert known - set(CONVERTERS) == set(REFUSED) | NOT_CONVERTED
    text = {"StringNormalizer", "Bernoulli"}  # the converter has them as custom ops
    random = {name for name in NO_FORM if name.startswith("Random")}
    assert not (set(NO_FORM) - text - random) & set(get_dispatch_registry())


def test_memory_is_estimated(folder: Path, look: Look) -> None:
    graph = OpGraph(
        (
            GraphOp("a", "Conv", inputs=("x",), outputs=("y",)),
            GraphOp("b", "Relu", inputs=("y",), outputs=("z",)),
            GraphOp("c", "Add", inputs=("z", "y"), outputs=("o",)),
        ),
        1000, {"x": 100, "y": 400, "z": 400, "o": 200},
    )  # fmt: skip
    assert graph.peak_bytes(["x"]) == 1000  # y, z and o
    checked = estimate(graph, ["x"], "fp32")
    assert (checked.weights * 2**20, checked.activations * 2**20) == (4000, 1000)
    assert estimate(graph, ["x"], "int8").total * 2**20 == pytest.approx(1250)
    (folder / "targets" / "devices").mkdir(parents=True)
    sources = "\n".join(f'{key} = "data sheet"' for key in ("arch", "triple", "cpu", "isa", "cores", "ram_mb"))
    (folder / "targets" / "devices" / "tiny.toml").write_text(
        'description = "tiny"\narch = "aarch64"\ntriple = "aarch64-linux-gnu"\ncpu = "cortex-a53"\nisa = ["neon"]\n'
        f"cores = 1\nram_mb = 1\n[sources]\n{sources}\n"
    )
    (folder / "targets" / "tiny-fp32.toml").write_text('extends = "rpi4-fp32"\ndevice = "tiny"\n')
    assert not of_kind(look("tiny-fp32"), "memory")
    write_net(folder / "net.onnx", shape=(1, 3, 300, 300))
    (wrong,) = of_kind(look("tiny-fp32"), "memory")
    assert "estimate" in wrong.what
    assert "has 1 MB" in wrong.what


def _problems(backend: str, precision: str, *ops: GraphOp) -> list[object]:
    checked = get_backend(backend)
    assert isinstance(checked, OpAdviser)
    target = load_target("x86-64-vnni-int8", Path()).target.model_copy(update={"precision": precision})
    return list(checked.problems(ops, target, Emit(backend=backend)))
