"""Both branches of a condition computed, and one result chosen."""

from __future__ import annotations

from typing import Any

from edgec.backends.tflite.rewrites.graph import Graph, attribute

_PURE = frozenset(
    {"Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose"}
    | {"Div", "Elu", "Erf", "Exp", "Flatten", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity"}
    | {"LayerNormalization", "LeakyRelu", "Log", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow"}
    | {
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Softplus",
    }
    | {"Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"}
)
"""Ops that may be computed though their result is thrown away."""


def branches_to_where(model: Any) -> int:
    """Compute both branches of each If and choose between the results, in place; return of how many.

    TFLite's IF cannot hand a tensor through, and its subgraphs are not quantized; converters take few forms of it. Left
    alone is an If whose branches hold other than plain arithmetic, or give results of unlike shapes.
    """
    import onnx

    graph = Graph(model)
    count = 0
    for node in graph.nodes("If"):
        branches = [attribute(node, name, None) for name in ("then_branch", "else_branch")]
        condition = graph.shape(node.input[0])
        if condition is None or any(size != 1 for size in condition) or not all(map(_plain, branches)):
            continue
        if not _alike(branches):
            continue
        results = []
        for number, branch in enumerate(branches):
            results.append(_inline(graph, node, branch, f"{node.name or 'If'}_{number}"))
        for made, first, second in zip(node.output, *results, strict=True):
            graph.insert_after(
                node, [onnx.helper.make_node("Where", [node.input[0], first, second], [made], name=made)]
            )
        model.graph.node.remove(node)
        count += 1
    return count


def _plain(branch: Any) -> bool:
    return all(node.op_type in _PURE for node in branch.node) and not branch.sparse_initializer


def _alike(branches: list[Any]) -> bool:
    def shapes(branch: Any) -> list[tuple[int, ...]]:
        return [tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim) for item in branch.output]

    first, second = map(shapes, branches)
    return first == second and all(size > 0 for shape in first for size in shape)


def _inline(graph: Graph, node: Any, branch: Any, prefix: str) -> list[str]:
    """Put the nodes of a branch before `node`; return the names of its results."""
    import onnx

    inner = {name for item in branch.node for name in item.output if name} | {item.name for item in branch.initializer}
    names = {name: graph.fresh(f"{prefix}/{name}") for name in sorted(inner)}
    for item in branch.initializer:
        held = onnx.TensorProto()
        held.CopyFrom(item)
        held.name = names[item.name]
        graph.hold(held)
    added = []
    for item in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(item)
        copy.name = f"{prefix}/{item.name or item.op_type}"
        copy.input[:] = [names.get(name, name) for name in item.input]
        copy.output[:] = [names.get(name, name) for name in item.output]
        added.append(copy)
    place = next(number for number, item in enumerate(graph.proto.node) if item is node)
    for offset, item in enumerate(added):
        graph.proto.node.insert(place + offset, item)
    return [names.get(item.name, item.name) for item in branch.output]
