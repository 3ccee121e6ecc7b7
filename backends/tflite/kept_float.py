"""Which operators of a program stay in float whatever a recipe asks for, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from edgec.backends.tflite.audit import base_name
from edgec.backends.tflite.capability import NO_INT8
from edgec.backends.tflite.flatbuffer import indices, kind_of, text
from edgec.passes.contract import Coverage

_UNUSABLE = "calibration met values that no 8-bit scale can hold: not finite, or beyond 1e30"
_MASKED = "kept in float: it makes softmax's argument, where a mask's magnitude would eat all 256 steps"
_ARGUMENT = "kept in float: it makes a logarithm's argument, which spans more than 256 steps hold"
_FIXED = "kept in float: it makes an output, and its int8 kernel has a fixed step (of 1/256 or 1/128)"
_MOVED = "kept in float: it only moves values to ops that stay float"
_MOVES = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE"})
_FIXED_STEP = frozenset({"L2_NORMALIZATION", "LOGISTIC", "SOFTMAX", "TANH"})
_JOINS = _MOVES | {"CONCATENATION", "SLICE", "STRIDED_SLICE"}
_BETWEEN = frozenset({"ADD", "DIV", "MUL", "RESHAPE", "SELECT", "SELECT_V2", "SUB", "TRANSPOSE"})
_MASKING = frozenset({"ADD", "SELECT", "SELECT_V2", "SUB"})
_BEFORE_LOG = _BETWEEN | {
    *("ABS", "EXP", "LOGISTIC", "MAXIMUM", "MINIMUM", "NEG", "RELU", "SOFTMAX", "SQRT", "SQUARE"),
}
_WIDEST = 255.0
"""Range of softmax's argument at which a step is a factor of e."""

Ranges = Mapping[int, tuple[float, float] | None]
"""Tensor of the quantizable program -> its range; None: it has none that 8 bits could hold."""


def kept_float(model: Any, ranges: Ranges) -> dict[int, str]:
    """Place of each operator that may not be quantized -> the reason."""
    operators = model.subgraphs[0].operators or ()
    unusable = {index for index, found in ranges.items() if found is None}
    found = {
        **dict.fromkeys(_fixed_outputs(model), _FIXED),
        **dict.fromkeys(_log_arguments(model), _ARGUMENT),
        **dict.fromkeys(_masked_softmaxes(model, ranges), _MASKED),
    }
    for place, item in enumerate(operators):
        if reason := NO_INT8.get(kind_of(model, item)):
            found[place] = reason
        if unusable & {*indices(item.inputs), *indices(item.outputs)}:
            found[place] = _UNUSABLE
    return found | dict.fromkeys(_moves_before(model, found), _MOVED)


def coverage_of_kept(model: Any, kept: Mapping[int, str]) -> tuple[Coverage, ...]:
    """One record for each layer and reason."""
    tensors = model.subgraphs[0].tensors
    told = dict.fromkeys(
        (_subject(model, tensors, place), reason)
        for place, reason in sorted(kept.items())
        if indices(model.subgraphs[0].operators[place].outputs)
    )
    return tuple(Coverage(subject=subject, state="float32", reason=reason) for subject, reason in told)


def _subject(model: Any, tensors: Any, place: int) -> str:
    operator = model.subgraphs[0].operators[place]
    kind, name = kind_of(model, operator), base_name(text(tensors[indices(operator.outputs)[0]].name))
    return kind if name == f"op/{kind.lower()}" else f"{name} ({kind})"


def tensors_between(model: Any, kept: Collection[int]) -> tuple[int, ...]:
    """Activations that only operators in float make and read: rounding them to 8 bits would gain nothing."""
    operators = model.subgraphs[0].operators or ()
    ranged = {index for index, item in enumerate(model.subgraphs[0].tensors) if item.quantization is not None}
    made = {index for place in kept for index in indices(operators[place].outputs)}
    read = {index for place, item in enumerate(operators) if place not in kept for index in indices(item.inputs)}
    return tuple(sorted((made - read) & ranged))


def _moves_before(model: Any, kept: Mapping[int, str]) -> list[int]:
    """Places of the moves of data that only operators in float read: 8 bits there would lose and gain nothing."""
    graph = model.subgraphs[0]
    ends = set(indices(graph.outputs))
    readers: dict[int, set[int]] = {}
    for place, item in enumerate(graph.operators or ()):
        for index in indices(item.inputs):
            readers.setdefault(index, set()).add(place)
    found: list[int] = []
    for place in reversed(range(len(graph.operators or ()))):
        made = indices(graph.operators[place].outputs)
        reading = set().union(*(readers.get(index, set()) for index in made))
        moves = kind_of(model, graph.operators[place]) in _MOVES and place not in kept and not ends & set(made)
        if moves and reading and reading <= {*kept, *found}:
            found.append(place)
    return found


def _fixed_outputs(model: Any) -> set[int]:
    """Places of the ops with a fixed step whose result is an output, and of the moves of data between."""
    graph = model.subgraphs[0]
    operators = graph.operators or ()
    before = _before(model, indices(graph.outputs), _JOINS | _FIXED_STEP, stop=_FIXED_STEP)
    fixed = {place for place in before if kind_of(model, operators[place]) in _FIXED_STEP}
    made = {index for place in fixed for index in indices(operators[place].outputs)}
    found = set(fixed)
    for place in sorted(before - fixed):  # in the order of work
        if made & {*indices(operators[place].inputs)}:
            found.add(place)
            made.update(indices(operators[place].outputs))
    return found


def _log_arguments(model: Any) -> set[int]:
    """Places of the element-wise ops between a product and a logarithm."""
    operators = model.subgraphs[0].operators or ()
    logs = [place for place, item in enumerate(operators) if kind_of(model, item) == "LOG"]
    return set().union(*(_before(model, indices(operators[place].inputs)[:1], _BEFORE_LOG) for place in logs))


def _masked_softmaxes(model: Any, ranges: Ranges) -> set[int]:
    """Places of softmaxes whose argument may hold a mask, and of the ops between it and the product before them.

    A softmax whose argument is only scaled stays with the quantizer, unless 256 steps would be of more than 1 each:
    a converter may add a mask to a product's bias.
    """
    operators = model.subgraphs[0].operators or ()
    made_by = {index: place for place, item in enumerate(operators) for index in indices(item.outputs)}
    found: set[int] = set()
    for place, operator in enumerate(operators):
        if kind_of(model, operator) not in ("SOFTMAX", "LOG_SOFTMAX"):
            continue
        chain = _before(model, indices(operator.inputs)[:1], _BETWEEN)
        if any(kind_of(model, operators[item]) in _MASKING for item in chain):
            found |= {place, *chain}
        argument = indices(operator.inputs)[0]
        span = ranges.get(argument)
        if span is not None and span[1] - span[0] > _WIDEST:
            found |= {place, *chain, *({made_by[argument]} if argument in made_by else ())}
    return found


def _before(
    model: Any, tensors: Iterable[int], kinds: frozenset[str], *, stop: frozenset[str] = frozenset()
) -> set[int]:
    """Places of the ops that make these tensors, as far back as they are of the given kinds, or to one of `stop`."""
    operators = model.subgraphs[0].operators or ()
    made_by = {index: place for place, item in enumerate(operators) for index in indices(item.outputs)}
    chain: set[int] = set()
    pending = list(tensors)
    while pending:
        source = made_by.get(pending.pop())
        if source is None or source in chain or kind_of(model, operators[source]) not in kinds:
            continue
        chain.add(source)
        if kind_of(model, operators[source]) not in stop:
            pending.extend(indices(operators[source].inputs))
    return chain
