"""LSTM, GRU and RNN: layers of torch, or their steps one by one where torch has no such cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, is_constant
from edgec.model.onnx_torch.linear import linear, linear_layer
from edgec.model.onnx_torch.recorder import Value

MAX_STEPS = 1024
"""Largest number of steps that are written out: a graph of more is too slow to handle."""

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Torch's gates, as indices into ONNX's: i f g o of i o f c, and r z n of z r h."""
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True)
class _Weights:
    """The weights of one direction, gates in ONNX's order."""

    inputs: torch.Tensor
    states: torch.Tensor
    input_bias: torch.Tensor
    state_bias: torch.Tensor
    peepholes: torch.Tensor | None


def _recurrent(call: Call) -> Any:
    value = call[0]
    by_batch = bool(call.get("layout", 0))
    if by_batch:
        value = torch.transpose(value, 0, 1)
    length, batch = value.shape[0], value.shape[1]
    lengths = call.integers(4, "sequence_lens")
    if lengths is not None and any(item != length for item in lengths):
        raise NoTorchFormError("its sequences have several lengths")
    way = call.get("direction", "forward")
    directions = 2 if way == "bidirectional" else 1
    size = call.get("hidden_size") or call.constant(2, "recurrent weight").shape[-1]
    states = [_state(call[index], by_batch) for index in ((5, 6) if call.op == "LSTM" else (5,))]
    run = _as_layer if _has_layer(call, directions) else _step_by_step
    if way == "reverse":
        value = torch.flip(value, [0])
    outputs, lasts = run(call, value, states, size, directions)
    if way == "reverse":
        outputs = torch.flip(outputs, [0])
    outputs = (
        torch.unsqueeze(outputs, 1)
        if directions == 1
        else torch.permute(torch.reshape(outputs, [length, batch, directions, size]), [0, 2, 1, 3])
    )
    if by_batch:
        return torch.permute(outputs, [2, 0, 1, 3]), *[torch.transpose(item, 0, 1) for item in lasts]
    return outputs, *lasts


def _state(value: Value, by_batch: bool) -> Value:
    """An initial state of [directions, batch, size]; None for zeros."""
    if value is None or (is_constant(value) and not bool(value.any())):
        return None
    return torch.transpose(value, 0, 1) if by_batch else value


def _weights(call: Call, direction: int) -> _Weights:
    inputs, states = call.constant(1, "weight")[direction], call.constant(2, "recurrent weight")[direction]
    biases = torch.zeros(2 * inputs.shape[0]) if call[3] is None else call.constant(3, "bias")[direction]
    peepholes = call.constant(7, "peephole")[direction] if call.op == "LSTM" and call[7] is not None else None
    input_bias, state_bias = torch.chunk(biases, 2)
    return _Weights(inputs, states, input_bias, state_bias, peepholes)


def _has_layer(call: Call, directions: int) -> bool:
    """Whether torch has this cell."""
    asked = call.get("activations")
    plain = asked is None or [item.lower() for item in asked] == [
        item.lower() for item in _DEFAULTS[call.op] * directions
    ]
    if call.op == "RNN" and asked is not None:
        plain = len({item.lower() for item in asked}) == 1 and asked[0].lower() in ("tanh", "relu")
    special = call.get("clip") or call.get("input_forget", 0) or (call.op == "LSTM" and call[7] is not None)
    early_reset = call.op == "GRU" and not call.get("linear_before_reset", 0)
    return plain and not special and not early_reset and is_constant(call[1], call[2], call[3])


def _as_layer(
    call: Call, value: Value, states: Sequence[Value], size: int, directions: int
) -> tuple[Value, Sequence[Value]]:
    kinds: Any = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
    options = {"nonlinearity": call.get("activations", ["tanh"])[0].lower()} if call.op == "RNN" else {}
    biased = call[3] is not None
    layer = kinds[call.op](value.shape[2], size, bias=biased, bidirectional=directions == 2, **options)
    for direction in range(directions):
        weights = _weights(call, direction)
        suffix = "_l0_reverse" if direction else "_l0"
        parts = {"weight_ih": weights.inputs, "weight_hh": weights.states}
        if biased:
            parts |= {"bias_ih": weights.input_bias, "bias_hh": weights.state_bias}
        for name, tensor in parts.items():
            gates = torch.split(tensor, size)
            setattr(layer, name + suffix, call.parameter(torch.cat([gates[index] for index in _ORDER[call.op]])))
    if all(item is None for item in states):
        result = call.layer(layer, value)
    else:
        shape = [directions, value.shape[1], size]
        given = [torch.zeros(shape) if item is None else item for item in states]
        result = call.layer(layer, value, tuple(given) if call.op == "LSTM" else given[0])
    outputs, lasts = result[0], result[1]
    return outputs, [lasts[0], lasts[1]] if call.op == "LSTM" else [lasts]


def _step_by_step(
    call: Call, value: Value, states: Sequence[Value], size: int, directions: int
) -> tuple[Value, Sequence[Value]]:
    length, batch = value.shape[0], value.shape[1]
    if length * directions > MAX_STEPS:
        raise NoTorchFormError(f"torch has no such cell, and {length} steps are too many to write out")
    names = [item.lower() for item in call.get("activations") or _DEFAULTS[call.op] * directions]
    count = len(names) // directions
    outputs, lasts = [], []
    for direction in range(directions):
        weights = _weights(call, direction)
        functions = [_activation(name) for name in names[direction * count : (direction + 1) * count]]
        own = [torch.zeros(batch, size) if item is None else item[direction] for item in states]
        steps = range(length)[::-1] if direction else range(length)
        run = _CELLS[call.op](call, weights, functions, size, value)
        made = {}
        for step in steps:
            own = run(step, own)
            made[step] = own[0]
        outputs.append(torch.stack([made[step] for step in range(length)]))
        lasts.append(own)
    joined = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    return joined, [torch.stack(list(items)) for items in zip(*lasts, strict=True)]


Step = Callable[[int, Sequence[Value]], list[Value]]
"""The states after a step, of its index and the states before."""


def _lstm_cell(call: Call, weights: _Weights, functions: Sequence[Any], size: int, value: Value) -> Step:
    inputs = linear(call, value, weights.inputs, weights.input_bias + weights.state_bias)
    recurrent = _shared(call, weights.states)
    limit = _limit(call)
    peep = [None] * 3 if weights.peepholes is None else list(torch.split(weights.peepholes, size))
    gate, cell, out = functions

    def step(index: int, states: Sequence[Value]) -> list[Value]:
        hidden, memory = states
        parts = torch.split(torch.add(inputs[index], recurrent(hidden)), size, 1)
        i, o, f, c = parts[0], parts[1], parts[2], parts[3]
        if peep[0] is not None:
            i, f = torch.add(i, torch.mul(memory, peep[0])), torch.add(f, torch.mul(memory, peep[2]))
        i = gate(limit(i))
        f = torch.sub(torch.ones(()), i) if call.get("input_forget", 0) else gate(limit(f))
        memory = torch.add(torch.mul(f, memory), torch.mul(i, cell(limit(c))))
        if peep[1] is not None:
            o = torch.add(o, torch.mul(memory, peep[1]))
        return [torch.mul(gate(limit(o)), out(memory)), memory]

    return step


def _gru_cell(call: Call, weights: _Weights, functions: Sequence[Any], size: int, value: Value) -> Step:
    other = weights.state_bias
    late = bool(call.get("linear_before_reset", 0))
    joined = weights.input_bias + (torch.cat([other[: 2 * size], torch.zeros(size)]) if late else other)
    inputs = linear(call, value, weights.inputs, joined)
    gates = _shared(call, weights.states[: 2 * size])
    candidate = _shared(call, weights.states[2 * size :], other[2 * size :] if late else None)
    limit, (gate, cell) = _limit(call), functions

    def step(index: int, states: Sequence[Value]) -> list[Value]:
        hidden = states[0]
        now = inputs[index]
        both = gate(limit(torch.add(now[:, : 2 * size], gates(hidden))))
        z, r = both[:, :size], both[:, size:]
        inner = torch.mul(r, candidate(hidden)) if late else candidate(torch.mul(r, hidden))
        new = cell(limit(torch.add(now[:, 2 * size :], inner)))
        return [torch.add(new, torch.mul(z, torch.sub(hidden, new)))]

    return step


def _rnn_cell(call: Call, weights: _Weights, functions: Sequence[Any], size: int, value: Value) -> Step:
    inputs = linear(call, value, weights.inputs, weights.input_bias + weights.state_bias)
    recurrent, limit = _shared(call, weights.states), _limit(call)

    def step(index: int, states: Sequence[Value]) -> list[Value]:
        return [functions[0](limit(torch.add(inputs[index], recurrent(states[0]))))]

    return step


_CELLS: Mapping[str, Callable[..., Step]] = {"LSTM": _lstm_cell, "GRU": _gru_cell, "RNN": _rnn_cell}


def _shared(call: Call, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Callable[[Value], Value]:
    """One Linear layer that every step calls."""
    layer = linear_layer(call, weight, bias)
    return lambda value: call.layer(layer, value)


def _limit(call: Call) -> Callable[[Value], Value]:
    clip = call.get("clip")
    return (lambda item: torch.clamp(item, -clip, clip)) if clip else (lambda item: item)


def _activation(name: str) -> Callable[[Value], Value]:
    known: dict[str, Callable[[Value], Value]] = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softsign": torch.nn.functional.softsign,
        "softplus": torch.nn.functional.softplus,
        "hardsigmoid": lambda item: torch.clamp(item * 0.2 + 0.5, 0.0, 1.0),
    }
    if name not in known:
        raise NoTorchFormError(f'its activation "{name}" is not converted')
    return known[name]


CONVERTERS: Mapping[str, Converter] = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
"""Op -> converter."""
