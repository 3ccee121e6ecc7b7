"""Which operators of a program stay in float whatever a recipe asks for, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from edgec.backends.float_regions import BESIDE, Op, Role, beside, float_regions, role_of
from edgec.backends.tflite.audit import base_name
from edgec.backends.tflite.capability import NO_INT8, WEIGHTED
from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, text
from edgec.passes.coverage import Coverage

_UNUSABLE = "calibration met values that no 8-bit scale can hold: not finite, or beyond 1e30"
_MASKED = "kept in float: it makes softmax's argument, where a mask's magnitude would eat all 256 steps"
_ARGUMENT = "kept in float: it makes a logarithm's argument, which spans more than 256 steps hold"
_MOVED = "kept in float: it only moves values to ops that stay float"
_MOVES = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE"})
_ROLES: tuple[tuple[Role, frozenset[str]], ...] = (
    ("product", WEIGHTED | {"BATCH_MATMUL", "GATHER"}),
    ("activation", frozenset({"RELU", "RELU6", "RELU_N1_TO_1"})),
    ("softmax", frozenset({"SOFTMAX"})),
    ("move", _MOVES),
    ("join", frozenset({"CONCATENATION"})),
    ("sampling", frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"})),
    (
        "arithmetic",
        frozenset({"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "NEG", "STRIDED_SLICE", "SLICE", "SUB", "SUM"}),
    ),
    ("power", frozenset({"ABS", "POW", "RFFT2D", "SQRT", "SQUARE", "SQUARED_DIFFERENCE"})),
    ("logarithm", frozenset({"LOG"})),
)
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
    unusable = {index for index, value_range in ranges.items() if value_range is None}
    reasons = {
        **dict.fromkeys(_log_arguments(model), _ARGUMENT),
        **_float_regions(model),
        **dict.fromkeys(_masked_softmaxes(model, ranges), _MASKED),
    }
    for place, item in enumerate(operators):
        if reason := NO_INT8.get(kind_of(model, item)):
            reasons[place] = reason
        if unusable & {*indices(item.inputs), *indices(item.outputs)}:
            reasons[place] = _UNUSABLE
    return reasons | dict.fromkeys(_moves_before(model, reasons), _MOVED)


def coverage_of_kept(model: Any, kept: Mapping[int, str]) -> tuple[Coverage, ...]:
    """One record for each layer and reason."""
    tensors = model.subgraphs[0].tensors
    records = dict.fromkeys(
        (_subject(model, tensors, place), reason)
        for place, reason in sorted(kept.items())
        if indices(model.subgraphs[0].operators[place].outputs)
    )
    return tuple(Coverage(subject=subject, state="float32", reason=reason) for subject, reason in records)


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


def kept_beside(model: Any, chosen: Collection[int], kept: Mapping[int, str]) -> dict[int, str]:
    """Place of each operator without weights that stays in float beside the layers that a recipe keeps so -> reason.

    Args:
        model: the quantizable program.
        chosen: places of the recipe's layers in float.
        kept: places that stay in float whatever a recipe asks for.
    """
    if not chosen:
        return {}
    operators = model.subgraphs[0].operators or ()
    weighted = {place for place, item in enumerate(operators) if kind_of(model, item) in WEIGHTED} - {*chosen, *kept}
    names = beside(_ops(model), set(map(str, chosen)), set(map(str, weighted)))
    return {place: BESIDE for place in map(int, names) if place not in kept}


def _moves_before(model: Any, kept: Mapping[int, str]) -> list[int]:
    """Places of the moves of data that only operators in float read: 8 bits there would lose and gain nothing."""
    graph = model.subgraphs[0]
    ends = set(indices(graph.outputs))
    readers: dict[int, set[int]] = {}
    for place, item in enumerate(graph.operators or ()):
        for index in indices(item.inputs):
            readers.setdefault(index, set()).add(place)
    movers: list[int] = []
    for place in reversed(range(len(graph.operators or ()))):
        made = indices(graph.operators[place].outputs)
        reading = set().union(*(readers.get(index, set()) for index in made))
        moves = kind_of(model, graph.operators[place]) in _MOVES and place not in kept and not ends & set(made)
        if moves and reading and reading <= {*kept, *movers}:
            movers.append(place)
    return movers


def _float_regions(model: Any) -> dict[int, str]:
    """Places of the ops of the front end and of the post-processing, with the reason."""
    regions = float_regions(_ops(model), {str(index) for index in indices(model.subgraphs[0].outputs)})
    return {int(name): reason for name, reason in regions.items()}


def _ops(model: Any) -> list[Op]:
    """The operators, called by their places."""
    graph = model.subgraphs[0]

    def op(place: int, operator: Any) -> Op:
        made = indices(operator.outputs)
        read = [
            index for index in indices(operator.inputs) if index >= 0 and not is_constant(model, graph.tensors[index])
        ]
        role = role_of(kind_of(model, operator), _ROLES)
        if kind_of(model, operator) in ("CONV_2D", "FULLY_CONNECTED"):
            weights = graph.tensors[indices(operator.inputs)[1]]
            role = "mean" if indices(weights.shape)[0] == 1 else "product"
        elif kind_of(model, operator) == "MUL" and len(read) == 2 and read[0] == read[1]:
            role = "power"
        return Op(str(place), role, tuple(map(str, read)), tuple(map(str, made)))

    return [op(place, operator) for place, operator in enumerate(graph.operators or ())]


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
    masked: set[int] = set()
    for place, operator in enumerate(operators):
        if kind_of(model, operator) not in ("SOFTMAX", "LOG_SOFTMAX"):
            continue
        chain = _before(model, indices(operator.inputs)[:1], _BETWEEN)
        if any(kind_of(model, operators[item]) in _MASKING for item in chain):
            masked |= {place, *chain}
        argument = indices(operator.inputs)[0]
        span = ranges.get(argument)
        if span is not None and span[1] - span[0] > _WIDEST:
            masked |= {place, *chain, *({made_by[argument]} if argument in made_by else ())}
    return masked


def _before(model: Any, tensors: Iterable[int], kinds: frozenset[str]) -> set[int]:
    """Places of the ops that make these tensors, as far back as they are of the given kinds."""
    operators = model.subgraphs[0].operators or ()
    made_by = {index: place for place, item in enumerate(operators) for index in indices(item.outputs)}
    chain: set[int] = set()
    pending = list(tensors)
    while pending:
        source = made_by.get(pending.pop())
        if source is None or source in chain or kind_of(model, operators[source]) not in kinds:
            continue
        chain.add(source)
        pending.extend(indices(operators[source].inputs))
    return chain
