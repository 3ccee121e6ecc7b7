"""ONNX ops as torch graphs: right for ONNX's own node tests, made of plain layers, and free of any converter."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

from edgec.model.from_onnx import torch_graph
from edgec.model.onnx_torch.table import CONVERTERS
from edgec.model.trace import Traced

N = helper.make_node


def _held(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value, np.float32 if np.asarray(value).dtype.kind == "f" else None), name)


def _model(
    nodes: Sequence[Any], shape: Sequence[int], held: dict[str, Any] | None = None, *, opset: int = 17, outputs: int = 1
) -> Any:
    """A model from x, float32 of `shape`, to y (y0, y1...)."""
    names = ["y"] if outputs == 1 else [f"y{index}" for index in range(outputs)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in names],
        [_held(name, value) for name, value in (held or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _typed(proto: Any) -> bytes:
    """The model with the types of its outputs, which ONNX Runtime wants stated."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    content: bytes = inferred.SerializeToString()
    return content


def _convert(proto: Any) -> Traced:
    """The torch graph, checked against ONNX Runtime on two samples."""
    session = onnxruntime.InferenceSession(_typed(proto), providers=["CPUExecutionProvider"])
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    samples = []
    for seed in (0, 1):
        array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        samples.append(([array], session.run(None, {"x": array})))
    return torch_graph(proto, samples)


def _graph(proto: Any) -> fx.GraphModule:
    traced = _convert(proto)
    assert traced.graph is not None, traced.untraceable
    return traced.graph


def _kinds(graph: fx.GraphModule) -> list[str]:
    """What each node calls."""
    calls = [node for node in graph.graph.nodes if node.op.startswith("call_")]
    return [
        type(graph.get_submodule(node.target)).__name__
        if node.op == "call_module"
        else str(getattr(node.target, "__name__", node.target))
        for node in calls
    ]


# files of onnx.backend.test.case.node: one op each, of every family
NODE_TESTS = (
    "affinegrid", "attention", "batchnorm", "celu", "center_crop_pad", "clip", "col2im", "compress", "concat", "conv",
    "convtranspose", "deformconv", "depthtospace", "det", "dft", "expand", "flatten", "gather", "gatherelements",
    "gathernd", "gelu", "gemm", "globalmaxpool", "gridsample", "groupnormalization", "gru", "hardmax", "hardsigmoid",
    "hardswish", "instancenorm", "layernormalization", "loop", "lrn", "lstm", "maxunpool", "mish",
    "negativeloglikelihoodloss", "pow", "prelu", "reduce_log_sum_exp", "reducemax", "reducemean", "resize",
    "reversesequence", "rnn", "roialign", "rotaryembedding", "scan", "scatterelements", "scatternd", "softmax",
    "spacetodepth", "split", "stft", "topk", "upsample", "where",
)  # fmt: skip
LEFT_OUT = {
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime, like torch, takes the ratio of the sizes",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime, like torch, takes the ratio of the sizes",
}


@pytest.mark.parametrize("file", NODE_TESTS)
def test_onnx_s_own_node_tests(file: str) -> None:
    torch.set_num_threads(1)
    tried, failures = 0, []
    for case in _cases(file):
        inputs, outputs = case.data_sets[0]
        arrays = [*inputs, *outputs]
        numbers = all(isinstance(item, np.ndarray) and item.dtype.kind in "fib" for item in arrays)
        if not numbers or all(item.dtype != np.float32 for item in inputs) or case.name in LEFT_OUT:
            continue
        if any(item.itemsize == 2 for item in arrays):
            continue  # float16, which loading has widened
        tried += 1
        if reason := _node_test(case):
            failures.append(f"{case.name}: {reason}")
    assert failures == []
    assert tried


def _cases(file: str) -> list[Any]:
    """The cases of one file: those that are one node or hold subgraphs, not their functions written out."""
    from onnx.backend.test.case import node

    before = len(node._NodeTestCases)
    if file not in _FILES:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            importlib.import_module(f"onnx.backend.test.case.node.{file}")
        _FILES[file] = [case for case in node._NodeTestCases[before:] if "expanded" not in case.name]
    return _FILES[file]


_FILES: dict[str, list[Any]] = {}
"""What has been read: importing a file a second time gives no cases."""


def _node_test(case: Any) -> str:
    """Why a node test has no right graph; all inputs but the first of floats are constants, as exporters write them."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    inputs, outputs = case.data_sets[0]
    data = next(index for index, item in enumerate(inputs) if item.dtype == np.float32)
    for index, array in enumerate(inputs):
        if index != data:
            model.graph.initializer.append(numpy_helper.from_array(array, model.graph.input[index].name))
    fed = model.graph.input[data]
    del model.graph.input[:]
    model.graph.input.append(fed)
    traced = torch_graph(model, [([inputs[data]], outputs)])
    return "" if traced.graph is not None else traced.untraceable


def test_every_converter_belongs_to_an_op_of_onnx() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert set(CONVERTERS) <= known


def _conv_net() -> Any:
    source = np.random.default_rng(0)
    nodes = [
        N("Conv", ["x", "a.weight", "a.bias"], ["1"], name="/a/Conv", auto_pad="SAME_UPPER", strides=[2, 2]),
        N("BatchNormalization", ["1", "s", "b", "m", "v"], ["2"], name="/n/BatchNormalization"),
        N("Clip", ["2", "zero", "six"], ["3"]),
        N("GlobalAveragePool", ["3"], ["4"]),
        N("Flatten", ["4"], ["5"]),
        N("MatMul", ["5", "w"], ["6"], name="/head/MatMul"),
        N("Add", ["bias", "6"], ["7"], name="/head/Add"),
        N("Softmax", ["7"], ["y"], axis=-1),
    ]
    held = {
        "a.weight": source.standard_normal((4, 3, 3, 3)), "a.bias": np.ones(4), "s": np.full(4, 1.5), "b": np.ones(4),
        "m": np.full(4, 0.1), "v": np.full(4, 2.0), "zero": np.array(0.0), "six": np.array(6.0),
        "w": source.standard_normal((4, 5)), "bias": np.arange(5) / 5.0,
    }  # fmt: skip
    return _model(nodes, [1, 3, 8, 8], held, opset=13)


def test_layers_with_weights_are_modules_under_the_users_names() -> None:
    graph = _graph(_conv_net())
    assert _kinds(graph) == [
        "ZeroPad2d", "Conv2d", "BatchNorm2d", "ReLU6", "AdaptiveAvgPool2d", "flatten", "Linear", "Softmax",
    ]  # fmt: skip
    assert isinstance(graph.get_submodule("a"), (nn.Conv2d, nn.ZeroPad2d))
    assert graph.get_submodule("head").bias is not None
    assert not graph.training


def test_a_graph_is_read_in_a_process_that_knows_no_converter(tmp_path: Path) -> None:
    proto = _conv_net()
    graph = _graph(proto)
    sample = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "graph.pkl").write_bytes(pickle.dumps((graph, sample, graph(sample).detach())))
    code = (
        "import pickle, sys\n"
        "for name in ('onnx', 'onnx2torch', 'torchvision', 'edgec'): sys.modules[name] = None\n"
        "graph, sample, expected = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert abs(graph(sample) - expected).max() < 1e-6\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "graph.pkl")], check=True)


def test_a_graph_can_be_traced_and_quantized() -> None:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    graph = _graph(_conv_net())
    sample = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(torch.jit.trace(graph, sample)(sample), graph(sample), atol=1e-6)
    prepared = prepare_fx(graph, get_default_qconfig_mapping("x86"), (sample,))
    prepared(sample)
    assert any("quantized" in type(part).__module__ for part in convert_fx(prepared).modules())


def test_layers_do_not_share_memory() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 4))
    nodes = [N("MatMul", ["x", "w"], ["1"]), N("Relu", ["1"], ["2"]), N("MatMul", ["2", "w"], ["y"])]
    graph = _graph(_model(nodes, [1, 4], {"w": weight}))
    linears = [part for part in graph.modules() if isinstance(part, nn.Linear)]
    assert len(linears) == 2
    assert linears[0].weight.data_ptr() != linears[1].weight.data_ptr()


def test_constants_take_no_more_room_than_they_need() -> None:
    held = {"c": np.arange(400.0).reshape(100, 4), "s": np.array([0]), "e": np.array([1])}
    graph = _graph(_model([N("Slice", ["c", "s", "e"], ["1"]), N("Add", ["x", "1"], ["y"])], [1, 4], held))
    [buffer] = graph.buffers()
    assert buffer.untyped_storage().nbytes() == 16


def test_what_follows_from_shapes_is_constant() -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "one"], ["channels"], axis=0),
        N("Cast", ["channels"], ["wide"], to=TensorProto.FLOAT),
        N("Range", ["zero", "wide", "step"], ["range"]),
        N("Concat", ["s", "two"], ["shape"], axis=0),
        N("Unsqueeze", ["x", "last"], ["column"]),
        N("Expand", ["column", "shape"], ["spread"]),
        N("ReduceSum", ["spread", "last"], ["sum"], keepdims=0),
        N("Mul", ["sum", "range"], ["y"]),
    ]
    held = {"one": np.array(1), "zero": np.array(0.0), "step": np.array(1.0), "two": np.array([2]), "last": [2]}
    graph = _graph(_model(nodes, [2, 3], held))
    assert set(_kinds(graph)) <= {"reshape", "expand", "sum", "mul"}


CELLS = [
    ("LSTM", {}), ("LSTM", {"direction": "bidirectional"}), ("LSTM", {"direction": "reverse"}),
    ("LSTM", {"clip": 0.4}), ("GRU", {"linear_before_reset": 1}), ("GRU", {}),
    ("GRU", {"direction": "bidirectional"}), ("GRU", {"linear_before_reset": 1, "direction": "reverse"}),
    ("RNN", {"activations": ["Relu"]}), ("RNN", {"direction": "bidirectional"}),
]  # fmt: skip


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("op", "options"), CELLS)
def test_recurrent_cells(op: str, options: dict[str, Any], with_state: bool) -> None:
    size, features, gates = 3, 4, {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    ways = 2 if options.get("direction") == "bidirectional" else 1
    source = np.random.default_rng(1)
    held = {
        "w": source.standard_normal((ways, gates * size, features)),
        "r": source.standard_normal((ways, gates * size, size)),
        "b": source.standard_normal((ways, 2 * gates * size)),
    }
    states = ["h", "c"][: 2 if op == "LSTM" else 1] if with_state else []
    held |= {name: source.standard_normal((ways, 1, size)) for name in states}
    outputs = ["y0", "y1", "y2"][: 3 if op == "LSTM" else 2]
    node = N(op, ["x", "w", "r", "b", "", *states][: 5 + len(states)], outputs, hidden_size=size, **options)
    graph = _graph(_model([node], [5, 1, features], held, outputs=len(outputs)))
    has_layer = op != "GRU" or options.get("linear_before_reset")
    assert any(isinstance(part, nn.RNNBase) for part in graph.modules()) == bool(has_layer and "clip" not in options)


@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("size", [(8, 10), (3, 2), (7, 5)])
def test_resize(mode: str, coordinates: str, size: tuple[int, int]) -> None:
    options = {"nearest_mode": "floor"} if coordinates == "asymmetric" and mode == "nearest" else {}
    node = N("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, coordinate_transformation_mode=coordinates, **options)
    graph = _graph(_model([node], [1, 2, 4, 5], {"sizes": np.array([1, 2, *size])}))
    if size == (8, 10) and (mode, coordinates) in [("linear", "half_pixel"), ("nearest", "asymmetric")]:
        assert _kinds(graph) == ["Upsample"]


def test_upsample_of_old_files() -> None:
    graph = _graph(_model([N("Upsample", ["x", "s"], ["y"])], [1, 2, 3, 3], {"s": np.array([1.0, 1, 2, 2])}, opset=9))
    assert _kinds(graph) == ["Upsample"]


POOLS = [
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 2], "strides": [2, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1], "strides": [2, 3]},
    {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("options", POOLS)
@pytest.mark.parametrize("extra", [{}, {"count_include_pad": 1}, {"p": 2}, None])
def test_pools(options: dict[str, Any], extra: dict[str, int] | None) -> None:
    op = "MaxPool" if extra is None else "LpPool" if "p" in extra else "AveragePool"
    if op == "LpPool":
        options = {name: value for name, value in options.items() if name != "ceil_mode"}
    graph = _graph(_model([N(op, ["x"], ["y"], **options, **(extra or {}))], [1, 2, 8, 7]))
    assert graph.graph.nodes


def test_places_of_the_largest() -> None:
    node = N("MaxPool", ["x"], ["y0", "y1"], kernel_shape=[2, 2], strides=[2, 2])
    _graph(_model([node], [2, 2, 4, 6], outputs=2))


PADS: list[tuple[list[int], dict[str, Any]]] = [
    ([0, 0, 1, 0, 0, 0, 2, 3], {}), ([0, 0, 1, 2, 0, 0, 1, 2], {"mode": "reflect"}),
    ([0, 0, 1, 2, 0, 0, 3, 0], {"mode": "edge"}), ([0, 1, 0, 0, 0, 2, 0, 0], {"mode": "edge"}),
    ([0, 0, -1, 1, 0, 0, 1, -1], {}), ([0, 0, 1, 1, 0, 0, 1, 1], {"mode": "wrap"}),
]  # fmt: skip


@pytest.mark.parametrize(("amounts", "options"), PADS)
def test_padding(amounts: list[int], options: dict[str, Any]) -> None:
    _graph(_model([N("Pad", ["x", "p"], ["y"], **options)], [1, 3, 5, 4], {"p": np.array(amounts)}, opset=19))


def test_ops_on_indices_computed_from_data() -> None:
    nodes = [
        N("ArgMax", ["x"], ["place"], axis=1, keepdims=0),
        N("OneHot", ["place", "depth", "values"], ["hot"]),
        N("Gather", ["table", "place"], ["row"]),
        N("Add", ["hot", "row"], ["sum"]),
        N("CumSum", ["sum", "last"], ["run"], reverse=1, exclusive=1),
        N("Einsum", ["run", "table"], ["y"], equation="bi,ij->bj"),
    ]
    held = {"depth": np.array(4), "values": np.array([0.5, 2.0]), "table": np.eye(4) + 1.0, "last": np.array(1)}
    assert "Embedding" in _kinds(_graph(_model(nodes, [3, 4], held)))


SLICES = [([-1], [-9223372036854775807], [2], [-1]), ([3], [0], [1], [-2]), ([1, -2], [100, -1], [1, 2], [2, 1])]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
def test_slices(starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> None:
    held = {"s": np.array(starts), "e": np.array(ends), "a": np.array(axes), "t": np.array(steps)}
    _graph(_model([N("Slice", ["x", "s", "e", "a", "t"], ["y"])], [1, 4, 5], held))


BOUNDS = [
    (["x", "lo"], ["clamp"]),
    (["x", "", "hi"], ["clamp"]),
    (["x", "zero"], ["ReLU"]),
    (["x", "lo", "hi"], ["Hardtanh"]),
]


@pytest.mark.parametrize(("inputs", "kinds"), BOUNDS)
def test_clip_with_one_bound_or_two(inputs: list[str], kinds: list[str]) -> None:
    held = {"lo": np.array(-0.5), "hi": np.array(0.7), "zero": np.array(0.0)}
    assert _kinds(_graph(_model([N("Clip", inputs, ["y"])], [1, 4], held))) == kinds


def test_clip_by_computed_bounds() -> None:
    nodes = [N("ReduceMax", ["x"], ["m"], keepdims=0), N("Sub", ["m", "d"], ["lo"]), N("Clip", ["x", "lo"], ["y"])]
    _graph(_model(nodes, [1, 6], {"d": np.array(1.0)}))


def _branch(name: str, nodes: Sequence[Any], output: str) -> Any:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def _if(no: Sequence[Any]) -> Any:
    nodes = [
        N("ReduceMean", ["x"], ["m"], keepdims=0),
        N("Greater", ["m", "zero"], ["c"]),
        N("If", ["c"], ["y"], name="choice", then_branch=_branch("t", [N("Identity", ["x"], ["t"])], "t"),
          else_branch=_branch("e", no, "e")),
    ]  # fmt: skip
    return _model(nodes, [1, 4], {"zero": np.array(0.0)}, opset=13)


def test_a_branch_on_data_is_a_choice_between_both_results() -> None:
    assert "where" in _kinds(_graph(_if([N("Neg", ["x"], ["e"])])))


def test_a_branch_on_data_between_shapes_is_refused_by_name() -> None:
    traced = _convert(_if([N("ReduceSum", ["x"], ["e"], keepdims=0)]))
    assert traced.graph is None
    assert traced.untraceable.endswith('If "choice": it branches on data, to results of different shapes')


def test_a_loop_with_a_constant_count_is_written_out() -> None:
    body = helper.make_graph(
        [N("Add", ["state", "x"], ["next"]), N("Identity", ["go"], ["on"]), N("Identity", ["next"], ["seen"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, [1, 3]),
        ],
    )
    node = N("Loop", ["trips", "", "x"], ["y0", "y1"], body=body)
    graph = _graph(_model([node], [1, 3], {"trips": np.array(4)}, outputs=2))
    assert _kinds(graph) == ["add"] * 4 + ["stack"]


REFUSALS: list[tuple[Callable[[], Any], str]] = [
    (lambda: N("Reshape", ["x", "picked"], ["y"]), "its shape depends on the model's input data"),
    (lambda: N("NonZero", ["x"], ["y"]), "its input depends on the model's input data"),
    (lambda: N("RandomNormalLike", ["x"], ["y"]), "its result is random"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSALS)
def test_what_depends_on_data_is_refused_with_op_and_reason(make: Callable[[], Any], reason: str) -> None:
    nodes = [N("ArgMax", ["x"], ["place"], axis=1, keepdims=0), N("Add", ["place", "one"], ["picked"]), make()]
    array = np.arange(4, dtype=np.float32)[None]
    traced = torch_graph(_model(nodes, [1, 4], {"one": np.array([1])}), [([array], [array])])
    assert traced.graph is None
    assert reason in traced.untraceable
    assert nodes[-1].op_type in traced.untraceable


def test_a_wrong_conversion_is_never_a_graph() -> None:
    array = np.ones((1, 4), np.float32)
    traced = torch_graph(_model([N("Relu", ["x"], ["y"])], [1, 4]), [([array], [array]), ([-array], [array])])
    assert traced.graph is None
    assert "computes something else" in traced.untraceable
