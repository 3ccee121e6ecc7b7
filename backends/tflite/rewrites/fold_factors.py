"""Constant factors behind a convolution or a dense product, taken into its weights and bias."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.backends.tflite.rewrites.graph import Graph, attribute
from edgec.model.spec import Array

_CHANNEL = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0}
"""Op -> axis of its weight that counts output channels (of a Gemm with transB)."""


def fold_factors(model: Any) -> int:
    """Fold ``Conv -> Mul`` and ``Conv -> Div`` by a constant of one value, or one a channel, in place; return how many.

    Left alone is a product whose result or weight something else reads.
    """
    graph = Graph(model)
    count = 0
    for scaled in graph.nodes("Mul", "Div"):
        constants = [graph.constant(name) for name in scaled.input]
        place = next((k for k, item in enumerate(constants) if item is None), None)
        if place is None or constants[1 - place] is None or (scaled.op_type == "Div" and place == 1):
            continue
        product = graph.maker(scaled.input[place])
        if product is None or product.op_type not in _CHANNEL or not _only(graph, product, scaled.input[place]):
            continue
        factor = np.asarray(constants[1 - place], np.float32)
        factor = 1 / factor if scaled.op_type == "Div" else factor
        if not np.isfinite(factor).all() or not _fold(graph, product, factor):
            continue
        product.output[0] = scaled.output[0]
        model.graph.node.remove(scaled)
        count += 1
    return count


def _only(graph: Graph, product: Any, made: str) -> bool:
    weight = product.input[1]
    return made not in graph.outputs and len(graph.readers(made)) == 1 and len(graph.readers(weight)) == 1


def _fold(graph: Graph, product: Any, factor: Array) -> bool:
    """Multiply the weight and bias of `product`, if `factor` has one value or one a channel."""
    weight = graph.constant(product.input[1])
    bias = graph.constant(product.input[2]) if len(product.input) > 2 and product.input[2] else None
    if weight is None or weight.dtype != np.float32 or (len(product.input) > 2 and product.input[2] and bias is None):
        return False
    if product.op_type == "Gemm" and not attribute(product, "transB", 0):
        return False
    axis = _CHANNEL[product.op_type]
    groups = attribute(product, "group", 1)
    channels = weight.shape[axis] * (groups if product.op_type == "ConvTranspose" else 1)
    if factor.size == 1:
        spread = own = factor.reshape(-1)[0]
    else:
        if factor.size != channels or product.op_type == "ConvTranspose":
            return False
        place = factor.ndim - (weight.ndim - 1 if product.op_type == "Conv" else 1)
        if place < 0 or factor.shape[place] != channels:
            return False
        own = factor.reshape(-1)
        spread = own.reshape([-1, *[1] * (weight.ndim - 1)])
    product.input[1] = graph.add_constant(f"{product.input[1]}_scaled", (weight * spread).astype(np.float32))
    if bias is not None:
        product.input[2] = graph.add_constant(f"{product.input[2]}_scaled", (bias * own).astype(np.float32))
    return True
