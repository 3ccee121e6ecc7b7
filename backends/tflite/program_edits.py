"""Edits of a float program (a ``ModelT``), in place, that keep its function."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.backends.tflite.schema_parts import add_constant, constant, operator
from edgec.model.spec import Array

_CLAMPS = {"RELU": 1, "RELU6": 3}
"""Op -> number of the fused activation that does the same."""
_MOVES = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE"})
_SAME, _VALID = 0, 1
"""Kinds of padding, as the schema numbers them."""
_REDUCTIONS = frozenset({"MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"})
_FUSES = frozenset({"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB"})


def reset_states(model: Any) -> int:
    """Make every run start from zero states; return how many states there are.

    TFLite's recurrent ops keep their states in variable tensors, which live on from one run to the next until the
    caller resets them: the second sample would start where the first ended. So a ZEROS_LIKE writes each state before
    it is read.
    """
    graph = model.subgraphs[0]
    made = {index for item in graph.operators for index in indices(item.outputs)}
    states = [index for index, tensor in enumerate(graph.tensors) if tensor.isVariable and index not in made]
    first: dict[int, list[Any]] = {}
    for index in states:
        readers = [place for place, item in enumerate(graph.operators) if index in indices(item.inputs)]
        if not readers:
            continue
        tensor = graph.tensors[index]
        zeros = add_constant(model, f"{text(tensor.name)}/zeros", np.zeros(indices(tensor.shape), np.float32))
        first.setdefault(readers[0], []).append(operator(model, "ZEROS_LIKE", 1, [zeros], [index]))
    graph.operators = [step for place, item in enumerate(graph.operators) for step in (*first.get(place, ()), item)]
    return sum(map(len, first.values()))


def reduce_before_transpose(model: Any) -> int:
    """Let reductions read what a transposition before them read, where the order of the other axes is kept."""
    graph = model.subgraphs[0]
    made_by = {index: item for item in graph.operators for index in indices(item.outputs)}
    count = 0
    for item in graph.operators:
        source = made_by.get(indices(item.inputs)[0]) if len(indices(item.inputs)) == 2 else None
        if kind_of(model, item) not in _REDUCTIONS or source is None or kind_of(model, source) != "TRANSPOSE":
            continue
        tensor, order = indices(source.inputs)
        axes = graph.tensors[indices(item.inputs)[1]]
        if item.builtinOptions.keepDims or not all(is_constant(model, x) for x in (axes, graph.tensors[order])):
            continue
        moved = constant(model, graph.tensors[order]).tolist()
        reduced = [axis % len(moved) for axis in constant(model, axes).reshape(-1).tolist()]
        left = [moved[axis] for axis in range(len(moved)) if axis not in reduced]
        if left != sorted(left):
            continue
        numbers = np.array(sorted(moved[axis] for axis in reduced), np.int32)
        item.inputs = np.array([tensor, add_constant(model, f"{text(axes.name)}/moved", numbers)], np.int32)
        count += 1
    _drop_dead(graph)
    return count


def _drop_dead(graph: Any) -> None:
    """Drop operators that nothing needs."""
    while True:
        needed = {index for item in graph.operators for index in indices(item.inputs)} | set(indices(graph.outputs))
        alive = [item for item in graph.operators if needed & set(indices(item.outputs))]
        if len(alive) == len(graph.operators):
            return
        graph.operators = alive


def spare_last_transposes(model: Any) -> int:
    """Let outputs of rank 4 have the layout they are computed in, NHWC; return how many transpositions go.

    Callers know from the bindings which layout an output has.
    """
    graph = model.subgraphs[0]
    (signature,) = model.signatureDefs
    readers = Counter(index for item in graph.operators for index in indices(item.inputs))
    ends = indices(graph.outputs)
    moved: dict[int, int] = {}
    for item in list(graph.operators):
        made = indices(item.outputs)[0]
        if kind_of(model, item) != "TRANSPOSE" or made not in ends or readers[made]:
            continue
        source, order = indices(item.inputs)
        taken = source in (*ends, *indices(graph.inputs), *moved.values())
        if taken or not is_constant(model, graph.tensors[order]) or is_constant(model, graph.tensors[source]):
            continue
        if constant(model, graph.tensors[order]).tolist() == [0, 3, 1, 2]:
            moved[made] = source
            graph.operators = [step for step in graph.operators if step is not item]
    graph.outputs = np.array([moved.get(index, index) for index in ends], np.int32)
    for output in signature.outputs:
        output.tensorIndex = moved.get(int(output.tensorIndex), output.tensorIndex)
    return len(moved)


def absorb_pads(model: Any) -> int:
    """Let convolutions pad by themselves where a PAD with zeros before them does what SAME does; return how many."""
    graph = model.subgraphs[0]
    made_by = {index: item for item in graph.operators for index in indices(item.outputs)}
    count = 0
    for item in graph.operators:
        kind = kind_of(model, item)
        pad = made_by.get(indices(item.inputs)[0]) if kind in ("CONV_2D", "DEPTHWISE_CONV_2D") else None
        if pad is None or kind_of(model, pad) != "PAD" or item.builtinOptions.padding != _VALID:
            continue
        source, widths = indices(pad.inputs)
        if not is_constant(model, graph.tensors[widths]):
            continue
        size = indices(graph.tensors[source].shape)
        kernel = indices(graph.tensors[indices(item.inputs)[1]].shape)
        options = item.builtinOptions
        steps = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
        same = [_same_pads(*parts) for parts in zip(size[1:3], kernel[1:3], *steps, strict=True)]
        if constant(model, graph.tensors[widths]).tolist() == [[0, 0], *same, [0, 0]]:
            options.padding = _SAME
            item.inputs = np.array([source, *indices(item.inputs)[1:]], np.int32)
            count += 1
    _drop_dead(graph)
    return count


def _same_pads(size: int, kernel: int, stride: int, dilation: int) -> list[int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return [total // 2, total - total // 2]


def fuse_activations(model: Any) -> int:
    """Let products and sums end in the ReLU that follows them, across moves of data; return how many ReLUs go."""
    graph = model.subgraphs[0]
    kept = set(indices(graph.outputs))
    readers = Counter(index for item in graph.operators for index in indices(item.inputs))
    made_by = {index: item for item in graph.operators for index in indices(item.outputs)}
    count = 0
    for item in list(graph.operators):
        kind = kind_of(model, item)
        if kind not in _CLAMPS:
            continue
        source = indices(item.inputs)[0]
        last: Any = made_by.get(source)
        maker = last
        between = source
        while maker is not None and readers[between] == 1 and between not in kept and kind_of(model, maker) in _MOVES:
            between = indices(maker.inputs)[0]
            maker = made_by.get(between)
        if maker is None or readers[between] != 1 or between in kept or kind_of(model, maker) not in _FUSES:
            continue
        if maker.builtinOptions.fusedActivationFunction:
            continue
        maker.builtinOptions.fusedActivationFunction = _CLAMPS[kind]
        last.outputs = item.outputs
        made_by[indices(item.outputs)[0]] = last
        graph.operators = [step for step in graph.operators if step is not item]
        count += 1
    return count


def fuse_dense(model: Any) -> int:
    """Turn products of an activation and a constant matrix into FULLY_CONNECTED, with their bias; return how many.

    The direct converter writes them as BATCH_MATMUL and ADD, which has no scale per channel, no kernel for stored
    weights, and a wrong int8 kernel in LiteRT 2.1.
    """
    graph = model.subgraphs[0]
    readers = Counter(index for item in graph.operators for index in indices(item.inputs))
    kept = set(indices(graph.outputs))
    transposed: dict[int, int] = {}
    count = 0
    for item in list(graph.operators):
        if kind_of(model, item) != "BATCH_MATMUL" or (weight := _matrix(model, item)) is None:
            continue
        source = indices(item.inputs)[1]
        if source not in transposed:
            name = f"{text(graph.tensors[source].name)}/dense"
            transposed[source] = add_constant(model, name, np.ascontiguousarray(weight))
        result = indices(item.outputs)
        bias, last = _bias_after(model, item, weight.shape[0], readers, kept)
        dense = operator(
            model, "FULLY_CONNECTED", 5, [indices(item.inputs)[0], transposed[source], bias], result, keepNumDims=True
        )
        if last is not None:
            dense.outputs = last.outputs
            _set_activation(dense, last)
            graph.operators = [step for step in graph.operators if step is not last]
        graph.operators = [dense if step is item else step for step in graph.operators]
        count += 1
    return count


def _matrix(model: Any, item: Any) -> Array | None:
    """The constant right side of a product as [outputs, inputs]; None: it is none, or a stack of several."""
    graph = model.subgraphs[0]
    left, right = (graph.tensors[index] for index in indices(item.inputs))
    options = item.builtinOptions
    shape = indices(right.shape)
    floats = names_of("TensorType")
    if floats[left.type] != "FLOAT32" or floats[right.type] != "FLOAT32" or not is_constant(model, right):
        return None
    if getattr(options, "adjX", False) or len(shape) < 2 or any(size != 1 for size in shape[:-2]):
        return None
    if len(indices(left.shape)) < len(shape):
        return None  # the result has more axes than its argument
    weight = constant(model, right).reshape(shape[-2:])
    return weight if getattr(options, "adjY", False) else weight.T


def _bias_after(model: Any, item: Any, size: int, readers: Counter[int], kept: set[int]) -> tuple[int, Any]:
    """The constant vector that an ADD, the only reader of a product, adds to it, and that ADD; -1, None: no such."""
    graph = model.subgraphs[0]
    made = indices(item.outputs)[0]
    if readers[made] != 1 or made in kept:
        return -1, None
    reader = next(step for step in graph.operators if made in indices(step.inputs))
    if kind_of(model, reader) != "ADD":
        return -1, None
    other = next(index for index in indices(reader.inputs) if index != made)
    tensor = graph.tensors[other]
    shape = indices(tensor.shape)
    if not is_constant(model, tensor) or names_of("TensorType")[tensor.type] != "FLOAT32":
        return -1, None
    if not shape or shape[-1] != size or any(extent != 1 for extent in shape[:-1]):
        return -1, None
    return add_constant(model, f"{text(tensor.name)}/bias", constant(model, tensor).reshape(-1)), reader


def _set_activation(dense: Any, last: Any) -> None:
    dense.builtinOptions.fusedActivationFunction = getattr(last.builtinOptions, "fusedActivationFunction", 0)
