"""Edits of a float program (a ``ModelT``), in place, that give an op the form of which there is an int8 kernel."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.backends.tflite.schema_parts import add_constant, add_floats, constant, operator

MOST_PRODUCTS = 64
"""Products of single matrices that one BATCH_MATMUL is written out to, at most."""


def write_int8_forms(model: Any) -> None:
    """Give ops the form that quantizes; what has none is left as it is."""
    divide_by_roots(model)
    unfold_products(model)


def divide_by_roots(model: Any) -> int:
    """Let divisions by a square root multiply by RSQRT: no int8 kernel divides, or takes roots; return how many."""
    graph = model.subgraphs[0]
    made_by = {index: item for item in graph.operators for index in indices(item.outputs)}
    steps: list[Any] = []
    count = 0
    for item in graph.operators:
        root = made_by.get(indices(item.inputs)[1]) if kind_of(model, item) == "DIV" else None
        if root is None or kind_of(model, root) != "SQRT" or not _is_float(model, indices(item.outputs)[0]):
            steps.append(item)
            continue
        count += 1
        divided, made = indices(item.inputs)[0], indices(item.outputs)[0]
        under = indices(root.inputs)[0]
        name = f"{text(graph.tensors[made].name)}/rsqrt"
        if is_constant(model, graph.tensors[divided]) and (constant(model, graph.tensors[divided]) == 1).all():
            steps.append(operator(model, "RSQRT", 1, [under], [made]))
            continue
        inverse = add_floats(model, name, indices(graph.tensors[under].shape))
        steps.append(operator(model, "RSQRT", 1, [under], [inverse]))
        fused = item.builtinOptions.fusedActivationFunction
        steps.append(operator(model, "MUL", 1, [divided, inverse], [made], fusedActivationFunction=fused))
    graph.operators = steps
    _drop_unread(model, "SQRT")
    return count


def unfold_products(model: Any) -> int:
    """Write BATCH_MATMUL out as FULLY_CONNECTED, one for each pair of matrices; return how many were.

    LiteRT 2.1's XNNPACK computes int8 BATCH_MATMUL wrongly (17 dB where tflite-runtime has 36).
    """
    graph = model.subgraphs[0]
    steps: list[Any] = []
    count = 0
    for item in graph.operators:
        written = _written_out(model, item) if kind_of(model, item) == "BATCH_MATMUL" else None
        steps += [item] if written is None else written
        count += written is not None
    graph.operators = steps
    return count


def _written_out(model: Any, item: Any) -> list[Any] | None:
    """The ops of one BATCH_MATMUL; None where its batches are broadcast or too many."""
    tensors = model.subgraphs[0].tensors
    (left, right), (made,) = indices(item.inputs), indices(item.outputs)
    shapes = [indices(tensors[index].shape) for index in (left, right, made)]
    if not all(_is_float(model, index) for index in (left, right, made)) or min(map(len, shapes)) < 2:
        return None
    name = text(tensors[made].name)
    steps: list[Any] = []

    def add(kind: str, inputs: list[int], shape: list[int], **options: Any) -> int:
        index = add_floats(model, f"{name}/{kind.lower()}", shape)
        steps.append(operator(model, kind, 1, inputs, [index], **options))
        return index

    def turned(index: int, shape: list[int]) -> tuple[int, list[int]]:
        """With its last two axes exchanged."""
        swapped = [*shape[:-2], shape[-1], shape[-2]]
        if 1 in shape[-2:]:
            return reshaped(index, swapped), swapped
        order = add_constant(
            model, f"{name}/order", np.array([*range(len(shape) - 2), len(shape) - 1, len(shape) - 2], np.int32)
        )
        return add("TRANSPOSE", [index, order], swapped), swapped

    def reshaped(index: int, shape: list[int]) -> int:
        shape_index = add_constant(model, f"{name}/shape", np.array(shape, np.int32))
        return add("RESHAPE", [index, shape_index], shape, newShape=np.array(shape, np.int32))

    left_shape, right_shape, out_shape = shapes
    batches = prod(out_shape[:-2])
    alone = prod(right_shape[:-2]) == 1
    if not alone and (prod(left_shape[:-2]) != batches or prod(right_shape[:-2]) != batches or batches > MOST_PRODUCTS):
        return None
    if alone and prod(left_shape[:-2]) != batches:
        return None
    if item.builtinOptions.adjX:
        left, left_shape = turned(left, left_shape)
    if not item.builtinOptions.adjY:
        if is_constant(model, tensors[right]):
            values = np.ascontiguousarray(np.swapaxes(constant(model, tensors[right]), -1, -2))
            right, right_shape = add_constant(model, text(tensors[right].name), values), list(values.shape)
        else:
            right, right_shape = turned(right, right_shape)
    rows, depth, columns = left_shape[-2], left_shape[-1], right_shape[-2]
    if alone:
        right = right if len(right_shape) == 2 else reshaped(right, [columns, depth])
        made_by = operator(model, "FULLY_CONNECTED", 1, [left, right, -1], [made], keepNumDims=True)
        return [*steps, made_by]
    parts: list[list[int]] = []
    for index, size in ((left, [rows, depth]), (right, [columns, depth])):
        flat = reshaped(index, [batches, *size])
        pieces = [add_floats(model, f"{name}/part", size) for _ in range(batches)]
        steps.append(operator(model, "UNPACK", 1, [flat], pieces, num=batches, axis=0))
        parts.append(pieces)
    products = [add("FULLY_CONNECTED", [one, other, -1], [rows, columns]) for one, other in zip(*parts, strict=True)]
    packed = add("PACK", products, [batches, rows, columns], valuesCount=batches, axis=0)
    shape_index = add_constant(model, f"{name}/shape", np.array(out_shape, np.int32))
    steps.append(operator(model, "RESHAPE", 1, [packed, shape_index], [made], newShape=np.array(out_shape, np.int32)))
    return steps


def _is_float(model: Any, index: int) -> bool:
    return names_of("TensorType")[model.subgraphs[0].tensors[index].type] == "FLOAT32"


def _drop_unread(model: Any, kind: str) -> None:
    graph = model.subgraphs[0]
    read = {index for item in graph.operators for index in indices(item.inputs)} | set(indices(graph.outputs))
    graph.operators = [
        item for item in graph.operators if kind_of(model, item) != kind or read & set(indices(item.outputs))
    ]
