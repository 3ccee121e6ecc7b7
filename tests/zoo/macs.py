"""Multiply-accumulates of an artifact's matrix products, and the share that is computed in int8.

They are counted from the file itself, with the shapes that one run of it has, so that a float product which an audit
does not know is counted too. Element-wise arithmetic is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

Shape = Sequence[int]


@dataclass(frozen=True)
class Product:
    """One product: its multiply-accumulates, and whether it reads integers."""

    macs: int
    integer: bool


def int8_share(file: Path, feeds: Mapping[str, Any] | Sequence[Any]) -> float | None:
    """Share of multiply-accumulates in int8, 0 to 1; None where the file has no products.

    Args:
        file: artifact; its suffix tells the format.
        feeds: for TorchScript one sample in call order, for the others unused.
    """
    count: Callable[[Path, Any], Iterable[Product]] = _COUNTERS[file.suffix]
    products = list(count(file, feeds))
    total = sum(item.macs for item in products)
    return sum(item.macs for item in products if item.integer) / total if total else None


def _matmul(a: Shape, b: Shape, out: Shape) -> int:
    """Of ``[.., M, K] x [.., K, N]``, whichever of the two is transposed: the element counts tell ``B M K N``."""
    batch = prod(out[:-2]) or 1
    return round(sqrt(max(prod(a), 1) * max(prod(b), 1) * max(prod(out), 1) / batch))


def _tflite(file: Path, _: object) -> Iterable[Product]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(file), experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    tensors = {item["index"]: item for item in interpreter.get_tensor_details()}
    for op in interpreter._get_ops_details():
        read = [tensors[index] for index in map(int, op["inputs"]) if index in tensors]
        made = [tensors[index] for index in map(int, op["outputs"]) if index in tensors]
        if not read or not made:
            continue
        shapes = [tuple(map(int, item["shape"])) for item in read]
        macs = _tflite_macs(op["op_name"], shapes, tuple(map(int, made[0]["shape"])))
        source = read[2] if op["op_name"] == "TRANSPOSE_CONV" else read[0]
        if macs:
            yield Product(macs, source["dtype"].__name__ in ("int8", "int16"))


def _tflite_macs(op: str, shapes: Sequence[Shape], out: Shape) -> int:
    if op == "CONV_2D":
        return prod(out) * prod(shapes[1][1:])
    if op == "DEPTHWISE_CONV_2D":
        return prod(out) * prod(shapes[1][1:3])
    if op == "CONV_3D":
        return prod(out) * prod(shapes[1][:-1])
    if op == "TRANSPOSE_CONV":
        return prod(shapes[2]) * prod(shapes[1][:-1])
    if op == "FULLY_CONNECTED":
        return prod(out) * shapes[1][-1]
    if op == "BATCH_MATMUL":
        return _matmul(shapes[0], shapes[1], out)
    if op in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM"):
        steps = prod(shapes[0][:-1]) if op != "LSTM" else 1
        return steps * sum(prod(shape) for shape in shapes[1:] if len(shape) == 2 and shape[0] > 1)
    return 0


def _onnx(file: Path, _: object) -> Iterable[Product]:
    import onnx

    from edgec.backends.onnxruntime.graph import all_nodes

    proto = onnx.shape_inference.infer_shapes(onnx.load(file))
    graph = proto.graph
    shapes: dict[str, Shape] = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    dequantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    requantized = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input}
    for node in all_nodes(proto):
        macs = _onnx_macs(node.op_type, [shapes.get(name, ()) for name in node.input], shapes.get(node.output[0], ()))
        integer = (
            node.input[0] in dequantized or "Integer" in node.op_type or node.op_type.startswith("DynamicQuantize")
        )
        if macs:
            yield Product(macs, integer and _stays_integer(node, graph, requantized))


def _stays_integer(node: Any, graph: Any, requantized: set[str]) -> bool:
    """Whether the result of a product between quantized tensors is quantized again, at once or behind an activation."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return True  # MatMul and Gemm have integer kernels with float results
    reached = {node.output[0]}
    for other in graph.node:
        if other.op_type in ("Relu", "Clip") and other.input[0] in reached:
            reached.add(other.output[0])
    return bool(reached & requantized)


def _onnx_macs(op: str, shapes: Sequence[Shape], out: Shape) -> int:
    if op in ("Conv", "ConvInteger"):
        return prod(out) * prod(shapes[1][1:])
    if op == "ConvTranspose":
        return prod(shapes[0]) * prod(shapes[1][1:])
    if op in ("MatMul", "Gemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        return _matmul(shapes[0], shapes[1], out)
    if op in ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"):
        return prod(shapes[0][:2]) * (prod(shapes[1]) + prod(shapes[2]))
    return 0


def _torchscript(file: Path, feeds: Sequence[Any]) -> Iterable[Product]:
    import torch

    torch.backends.quantized.engine = "qnnpack" if "qnnpack" in file.name else "fbgemm"
    load: Any = torch.jit.load
    graph = torch.jit.freeze(load(str(file)).eval()).inlined_graph.copy()
    nodes = [node for node in graph.nodes() if _reads(node)]
    for index in range(len(list(graph.outputs())) - 1, -1, -1):
        graph.eraseOutput(index)
    wanted = [value for node in nodes for value in (next(iter(node.outputs())), *_reads(node))]
    result = graph.appendNode(graph.create("prim::TupleConstruct", wanted, 1)).output()
    result.setType(torch._C.TupleType([value.type() for value in wanted]))
    graph.registerOutput(result)
    graph.eraseInput(0)  # the module, which a frozen graph does not read
    run = torch._C._create_function_from_graph("products", graph)
    with torch.no_grad():
        values = iter(run(*[torch.from_numpy(item) for item in feeds]))
    for node in nodes:
        out = next(values)
        read = [next(values) for _ in _reads(node)]
        yield Product(_torch_macs(node, out, read), node.kind().startswith("quantized::") or read[0].is_quantized)


def _reads(node: Any) -> list[Any]:
    """The tensors that a product multiplies, as values of the graph; empty for what is none."""
    space, _, op = node.kind().partition("::")
    if space not in ("aten", "quantized"):
        return []
    inputs = list(node.inputs())
    if op in ("lstm", "gru", "quantized_lstm", "quantized_gru", "lstm_dynamic", "gru_dynamic"):
        return inputs[:1]
    if op in ("matmul", "bmm"):
        return inputs[:2]
    if op == "addmm":
        return inputs[1:3]
    if any(part in op for part in ("linear", "conv")) and "prepack" not in op:
        return inputs[:1] if space == "quantized" else inputs[:2]
    return []


def _torch_macs(node: Any, out: Any, read: Sequence[Any]) -> int:
    import torch

    inputs = list(node.inputs())
    op = node.kind().partition("::")[2]
    if "lstm" in op or "gru" in op:
        listed = inputs[2].node()
        weights = [item.toIValue() for item in listed.inputs()] if list(listed.inputs()) else inputs[2].toIValue()
        return prod(read[0].shape[:-1]) * sum(_elements(item) for item in weights)
    if op in ("matmul", "bmm", "addmm"):
        return _matmul(read[0].shape, read[1].shape, out.shape)
    weight: torch.Tensor = read[1] if len(read) > 1 else inputs[1].toIValue().unpack()[0]
    if "linear" in op:
        return int(out.numel() * weight.shape[-1])
    transposed = "transpose" in op or (op == "_convolution" and bool(inputs[6].toIValue()))
    return int((read[0] if transposed else out).numel() * prod(weight.shape[1:]))


def _elements(value: Any) -> int:
    """Elements of a weight matrix; of a packed cell, of both."""
    import torch

    if isinstance(value, torch.Tensor):
        return int(value.numel()) if value.dim() == 2 else 0
    state = value.__getstate__() if hasattr(value, "__getstate__") else ()
    packed = state[-1] if state else ()
    return sum(int(item.unpack()[0].numel()) for item in packed if hasattr(item, "unpack"))


_COUNTERS: Mapping[str, Callable[[Path, Any], Iterable[Product]]] = {
    ".tflite": _tflite,
    ".onnx": _onnx,
    ".pt": _torchscript,
}
