"""Ops that join tensors and stay in float, hidden from TensorFlow's quantizer.

The quantizer gives all operands of such an op one scale before it looks at which ops stay in float. Class scores that
are joined with boxes would get the range of the boxes. As custom ops they have no rule of that kind.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, pack, text, unpack

_JOINS = frozenset({"CONCATENATION", "MAXIMUM", "MINIMUM", "PACK", "SELECT", "SELECT_V2"})
"""Ops whose operands have one scale in TensorFlow's quantizer (tfl_ops.td: SameOperandsAndResultsScale)."""
_NAME = "edgec.join"


@dataclass(frozen=True)
class HiddenJoin:
    """An op as it was: its code and its options."""

    code: Any
    options_type: int
    options: Any


def hide_joins(model: Any, places: Collection[int]) -> dict[str, HiddenJoin]:
    """Turn the joins among the operators at `places` into custom ops.

    Args:
        model: object form of the flatbuffer, which is changed.
        places: of operators that stay in float.

    Returns:
        The ops as they were, by the name of the custom op.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    hidden: dict[str, HiddenJoin] = {}
    for place in sorted(places):
        operator = graph.operators[place]
        joined = [index for index in indices(operator.inputs) if not is_constant(model, graph.tensors[index])]
        if kind_of(model, operator) not in _JOINS or len(joined) < 2:
            continue
        name = f"{_NAME}.{place}"
        before = model.operatorCodes[operator.opcodeIndex]
        hidden[name] = HiddenJoin(before, operator.builtinOptionsType, operator.builtinOptions)
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = name, 1
        model.operatorCodes.append(code)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.builtinOptionsType, operator.builtinOptions = 0, None
    return hidden


def restore_joins(content: bytes, hidden: dict[str, HiddenJoin]) -> bytes:
    """The file with the hidden ops as they were."""
    if not hidden:
        return content
    model = unpack(content)
    for operator in (operator for graph in model.subgraphs for operator in graph.operators or ()):
        code = model.operatorCodes[operator.opcodeIndex]
        join = hidden.get(text(code.customCode)) if code.customCode else None
        if join is not None:
            model.operatorCodes.append(join.code)
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.builtinOptionsType, operator.builtinOptions = join.options_type, join.options
            operator.customOptions = None
    return pack(model)
