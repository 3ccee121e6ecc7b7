"""Which tensors of a program an activation function alone reads."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of
from edgec.quant.saturation import Reader, function_of

_KINDS = {
    "ELU": "elu",
    "GELU": "gelu",
    "HARD_SWISH": "hard-swish",
    "LOGISTIC": "sigmoid",
    "MUL": "mul",
}
"""Ops by their names in `edgec.quant.saturation`."""


def functions_read(model: Any) -> dict[int, str]:
    """Tensor -> the function that alone reads it, where there is one."""
    graph = model.subgraphs[0]
    readers: dict[int, list[Reader]] = defaultdict(list)
    for operator in graph.operators or ():
        read = [index for index in indices(operator.inputs) if index >= 0]
        used = tuple(str(index) for index in read if not is_constant(model, graph.tensors[index]))
        reader = Reader(_KINDS.get(kind_of(model, operator), ""), used, tuple(map(str, indices(operator.outputs))))
        for index in read:
            readers[index].append(reader)
    functions = {index: function_of(str(index), items) for index, items in readers.items()}
    return {index: function for index, function in functions.items() if function is not None}
