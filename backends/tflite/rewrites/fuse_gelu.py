"""GELU written out by the exporter, put together again: TFLite has one int8 kernel for it, and none for Erf."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

DOMAIN = "com.microsoft"
"""ONNX Runtime has Gelu here at every opset; the standard one begins at opset 20."""


def fuse_gelu(model: Any) -> int:
    """Replace ``x / sqrt(2) -> Erf -> + 1 -> * x -> * 0.5`` by one Gelu node, in place; return how many.

    Factors may stand on either side, ``0.5`` may be applied to x first, and the division may be a product.
    """
    import onnx

    graph = model.graph
    users: Mapping[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    makers = {name: node for node in graph.node for name in node.output}
    constants = _scalars(graph)
    kept = {item.name for item in graph.output}
    fused = 0
    for erf in [node for node in graph.node if node.op_type == "Erf"]:
        match = _match(erf, makers, users, constants, kept)
        if match is None:
            continue
        source, last, inner = match
        position = next(index for index, node in enumerate(graph.node) if node is last)
        gelu = onnx.helper.make_node("Gelu", [source], [last.output[0]], name=f"{erf.name}_gelu", domain=DOMAIN)
        graph.node.insert(position, gelu)
        for node in inner:
            graph.node.remove(node)
        fused += 1
    if fused and not any(item.domain == DOMAIN for item in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return fused


def _scalars(graph: Any) -> dict[str, float]:
    from onnx import numpy_helper

    arrays = [(item.name, numpy_helper.to_array(item)) for item in graph.initializer]
    arrays += [
        (node.output[0], numpy_helper.to_array(node.attribute[0].t))
        for node in graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
    ]
    return {name: float(array.reshape(-1)[0]) for name, array in arrays if array.size == 1 and array.dtype.kind == "f"}


def _other(node: Any, name: str) -> str:
    return str(node.input[1] if node.input[0] == name else node.input[0])


def _match(
    erf: Any,
    makers: Mapping[str, Any],
    users: Mapping[str, list[Any]],
    constants: Mapping[str, float],
    kept: set[str],
) -> tuple[str, Any, list[Any]] | None:
    """The input of the GELU around `erf`, its last node, and all its nodes; None when it is not one."""

    def only_user(node: Any, kind: str) -> Any:
        readers = users[node.output[0]]
        inside = len(readers) == 1 and readers[0].op_type == kind and node.output[0] not in kept
        return readers[0] if inside else None

    scale = makers.get(erf.input[0])
    if scale is None or scale.op_type not in ("Div", "Mul") or only_user(scale, "Erf") is None:
        return None
    source = str(scale.input[0])
    factor = constants.get(scale.input[1], 0.0)
    if scale.op_type == "Mul" and source in constants:
        source, factor = str(scale.input[1]), constants[scale.input[0]]
    if not np.isclose(factor, 2**0.5 if scale.op_type == "Div" else 0.5**0.5, rtol=1e-4):
        return None
    plus = only_user(erf, "Add")
    if plus is None or constants.get(_other(plus, erf.output[0])) != 1.0:
        return None
    first = only_user(plus, "Mul")
    if first is None:
        return None
    partner = _other(first, plus.output[0])
    if partner == source:
        second = only_user(first, "Mul")
        if second is not None and constants.get(_other(second, first.output[0])) == 0.5:
            return source, second, [scale, erf, plus, first, second]
    half = makers.get(partner)
    halves = half is not None and half.op_type == "Mul" and source in half.input and only_user(half, "Mul") is first
    if halves and constants.get(_other(half, source)) == 0.5:
        return source, first, [scale, erf, plus, half, first]
    if constants.get(partner) == 0.5:
        second = only_user(first, "Mul")
        if second is not None and _other(second, first.output[0]) == source:
            return source, second, [scale, erf, plus, first, second]
    return None
