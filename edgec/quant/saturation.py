"""Activation functions that hardly change beyond some value: what they read needs no codes there.

SiLU of -30 and of -8 are both nearly 0, but a range that begins at -30 spends most of its codes on what makes no
difference. Before it is quantized, such a range is cut where the function saturates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.quant.histogram import Array

NOTICEABLE = 1 / 16
"""Part of a step of the cut range by which the function may change beyond it."""
_POINTS = 256
_STEPS = 255
_ROUNDS = 6


def _sigmoid(x: Array) -> Array:
    sigmoid: Array = 1 / (1 + np.exp(-np.clip(x, -80, 80)))
    return sigmoid


def _normal(x: Array) -> Array:
    return np.array([0.5 * (1 + math.erf(item / math.sqrt(2))) for item in x])


FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * _normal(x),
    "hard-swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "silu": lambda x: x * _sigmoid(x),
}
"""Whose lower end is flat. Sigmoid and the like are not among them: of scores, 0.002 and 0.00001 are not the same."""


@dataclass(frozen=True)
class Reader:
    """An op that reads a tensor.

    Attributes:
        kind: one of `FUNCTIONS`, ``sigmoid``, ``hard-sigmoid``, ``mul``, or anything else.
        inputs: tensors that it reads, without constants.
        outputs: tensors that it makes.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def function_of(tensor: str, readers: Sequence[Reader]) -> str | None:
    """The function of `FUNCTIONS` that alone reads a tensor; None: there is more to it.

    SiLU and hard-swish are also known as two ops: a sigmoid, and the product of its result with the tensor.
    """
    if len(readers) == 1 and readers[0].kind in FUNCTIONS:
        return readers[0].kind
    gates = [item for item in readers if item.kind in ("sigmoid", "hard-sigmoid")]
    products = [item for item in readers if item.kind == "mul"]
    if len(readers) != 2 or len(gates) != 1 or len(products) != 1:
        return None
    if set(products[0].inputs) != {tensor, *gates[0].outputs}:
        return None
    return "silu" if gates[0].kind == "sigmoid" else "hard-swish"


def cut(low: float, high: float, function: str | None) -> tuple[float, float]:
    """The part of a range in which values of `function` differ.

    Args:
        low: at most 0.
        high: at least 0.
        function: one of `FUNCTIONS`; None: all of the range is needed.
    """
    if function is None:
        return low, high
    compute = FUNCTIONS[function]
    below, above = -low, high
    for _ in range(_ROUNDS):  # each end by the step that the other one leaves
        below = _end(lambda x: compute(-x), -low, above)
        above = _end(compute, high, below)
    return -below, above


def _end(compute: Callable[[Array], Array], limit: float, other: float) -> float:
    """Up to which magnitude, at most `limit`, a function must be known; `other`: magnitude of the range's other end."""
    if limit <= 0:
        return limit
    points = np.linspace(0, limit, _POINTS)
    values = compute(points)
    beyond_high = np.maximum.accumulate(values[::-1])[::-1]
    beyond_low = np.minimum.accumulate(values[::-1])[::-1]
    change = np.maximum(beyond_high - values, values - beyond_low)
    step = (points + other) / _STEPS
    return float(points[np.argmax(change <= NOTICEABLE * step)])
