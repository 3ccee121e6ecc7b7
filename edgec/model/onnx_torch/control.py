"""Control flow that is decided when the graph is made, sequences and optional values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, axis_of, is_constant, scalar
from edgec.model.onnx_torch.recorder import Value
from edgec.model.onnx_torch.shape import chunk_sizes, parts

MAX_TRIPS = 256
"""Largest number of copies of a loop's body."""


def _if(call: Call) -> Any:
    if not is_constant(call[0]):
        return _either(call)
    chosen = call.get("then_branch") if bool(call[0].reshape(())) else call.get("else_branch")
    return tuple(call.run_body(chosen, ()))


def _either(call: Call) -> Any:
    """Both branches, and the choice between their results: these are pure, so the other one does no harm."""
    branches = [call.run_body(call.get(name), ()) for name in ("then_branch", "else_branch")]
    results = []
    for yes, no in zip(*branches, strict=True):
        alike = all(hasattr(item, "shape") for item in (yes, no)) and yes.shape == no.shape and yes.dtype == no.dtype
        if not alike:
            raise NoTorchFormError("it branches on data, to results of different shapes")
        results.append(torch.where(torch.reshape(call[0], []), yes, no))
    return tuple(results)


def _loop(call: Call) -> Any:
    trips = None if call[0] is None else int(scalar(call.constant(0, "trip count")))
    going = call[1]
    states = list(call.inputs[2:])
    body, scanned = call.get("body"), []
    count = 0
    while trips is None or count < trips:
        if going is not None and not is_constant(going):
            raise NoTorchFormError("whether it goes on depends on the model's input data")
        if going is not None and not bool(going.reshape(())):
            break
        if count >= MAX_TRIPS:
            raise NoTorchFormError(f"it has more than {MAX_TRIPS} trips, too many to write out")
        condition = torch.tensor(True) if going is None else going
        results = call.run_body(body, [torch.tensor(count), condition, *states])
        going, states = results[0], results[1 : 1 + len(states)]
        scanned.append(results[1 + len(states) :])
        count += 1
    if not scanned and len(call.outputs) > len(states):
        raise NoTorchFormError("it makes no trip, so the shape of its results is not known")
    return (*states, *[torch.stack(list(items)) for items in zip(*scanned, strict=True)])


def _scan(call: Call) -> Any:
    if call.opset < 9:
        return _batched_scan(call)
    count = call.get("num_scan_inputs")
    states, fed = list(call.inputs[:-count]), list(call.inputs[-count:])
    axes = call.get("scan_input_axes", [0] * count)
    turned = call.get("scan_input_directions", [0] * count)
    axes = [axis_of(axis, value.ndim) for axis, value in zip(axes, fed, strict=True)]
    return _scanned(call, states, fed, axes, turned)


def _batched_scan(call: Call) -> Any:
    """Opset 8: inputs and outputs have a batch axis first, and lengths."""
    if call[0] is not None:
        raise NoTorchFormError("its sequences have several lengths")
    count = call.get("num_scan_inputs")
    given = call.inputs[1:]
    turned = call.get("directions", [0] * count)
    batches = []
    for index in range(given[0].shape[0]):
        own = [item[index] for item in given]
        batches.append(_scanned(call, own[:-count], own[-count:], [0] * count, turned))
    return tuple(torch.stack(list(items)) for items in zip(*batches, strict=True))


def _scanned(call: Call, states: list[Value], fed: list[Value], axes: list[int], turned: list[int]) -> Any:
    length = fed[0].shape[axes[0]]
    if length > MAX_TRIPS:
        raise NoTorchFormError(f"it has {length} steps, too many to write out")
    made = []
    for step in range(length):
        own = [
            value[tuple([slice(None)] * axis + [length - 1 - step if turn else step])]
            for value, axis, turn in zip(fed, axes, turned, strict=True)
        ]
        results = call.run_body(call.get("body"), [*states, *own])
        states = results[: len(states)]
        made.append(results[len(states) :])
    outputs = len(made[0])
    places = call.get("scan_output_axes", [0] * outputs)
    backwards = call.get("scan_output_directions", [0] * outputs)
    stacked = []
    for items, axis, turn in zip(zip(*made, strict=True), places, backwards, strict=True):
        ordered = list(items)[::-1] if turn else list(items)
        stacked.append(torch.stack(ordered, axis_of(axis, ordered[0].ndim + 1)))
    return (*states, *stacked)


def _split_to_sequence(call: Call) -> Any:
    value, axis = call[0], axis_of(call.get("axis", 0), call[0].ndim)
    total = value.shape[axis]
    sizes = call.integers(1, "split")
    keep = bool(call.get("keepdims", 1)) or sizes is not None
    if sizes is None:
        sizes = [1] * total
    elif call[1].ndim == 0:
        sizes = chunk_sizes(total, sizes[0])
    return ([item if keep else torch.squeeze(item, axis) for item in parts(value, axis, sizes)],)


def _sequence_insert(call: Call) -> Any:
    items = list(call[0])
    items.insert(len(items) if call[2] is None else int(scalar(call.constant(2, "position"))), call[1])
    return (items,)


def _sequence_erase(call: Call) -> Any:
    items = list(call[0])
    items.pop(-1 if call[1] is None else int(scalar(call.constant(1, "position"))))
    return (items,)


def _concat_from_sequence(call: Call) -> Value:
    return (torch.stack if call.get("new_axis", 0) else torch.cat)(list(call[0]), call.get("axis"))


def _sequence_map(call: Call) -> Any:
    first, rest = call[0], call.inputs[1:]
    results = [
        call.run_body(call.get("body"), [item, *[one[index] if isinstance(one, list) else one for one in rest]])
        for index, item in enumerate(first)
    ]
    return tuple(list(items) for items in zip(*results, strict=True))


def _optional_get(call: Call) -> Value:
    if call[0] is None:
        raise NoTorchFormError("the optional value is empty")
    return (call[0],)


CONVERTERS: Mapping[str, Converter] = {
    "ConcatFromSequence": _concat_from_sequence,
    "If": _if,
    "Loop": _loop,
    "Optional": lambda call: (call[0],),
    "OptionalGetElement": _optional_get,
    "OptionalHasElement": lambda call: torch.tensor(call[0] is not None),
    "Scan": _scan,
    "SequenceAt": lambda call: call[0][int(scalar(call.constant(1, "position")))],
    "SequenceConstruct": lambda call: (list(call.inputs),),
    "SequenceEmpty": lambda call: ([],),
    "SequenceErase": _sequence_erase,
    "SequenceInsert": _sequence_insert,
    "SequenceLength": lambda call: torch.tensor(len(call[0])),
    "SequenceMap": _sequence_map,
    "SplitToSequence": _split_to_sequence,
}
"""Op -> converter."""
