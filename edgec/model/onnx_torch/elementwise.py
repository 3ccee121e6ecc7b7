"""Arithmetic, comparisons, logic and rounding, element by element."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import (
    Call,
    Converter,
    NoTorchFormError,
    as_dtype,
    broadcast_shape,
    is_constant,
    scalar,
)
from edgec.model.onnx_torch.recorder import Value


def number_if_one(value: Value, other: Value) -> Any:
    """A constant of one element as a Python number, where that does not change the result's shape or dtype."""
    if not isinstance(value, torch.Tensor) or is_constant(other) or value.numel() != 1:
        return value
    if value.ndim > other.ndim or value.dtype != other.dtype or not value.dtype.is_floating_point:
        return value
    number = scalar(value)
    # what code cannot spell stays a tensor
    return number if number == number and abs(number) != float("inf") else value


def binary(left: Value, right: Value, tensors: Callable[..., Any], numbers: Callable[..., Any]) -> Value:
    """The result of `numbers` where one side is a Python number, else of `tensors`.

    Args:
        left: a tensor or number.
        right: a tensor or number.
        tensors: the op on tensors.
        numbers: the op on a tensor and a number.
    """
    ours, theirs = number_if_one(left, right), number_if_one(right, left)
    call = numbers if isinstance(ours, float) or isinstance(theirs, float) else tensors
    return call(ours, theirs)


def add(left: Value, right: Value) -> Value:
    """The sum, with broadcasting."""
    return binary(left, right, torch.add, operator.add)


def sub(left: Value, right: Value) -> Value:
    """The difference, with broadcasting."""
    return binary(left, right, torch.sub, operator.sub)


def mul(left: Value, right: Value) -> Value:
    """The product, with broadcasting."""
    return binary(left, right, torch.mul, operator.mul)


def div(left: Value, right: Value) -> Value:
    """The quotient, with broadcasting; integers are divided towards zero."""
    if left.dtype.is_floating_point:
        return binary(left, right, torch.div, operator.truediv)
    return torch.div(left, right, rounding_mode="trunc")


def _broadcast(function: Callable[[Value, Value], Value]) -> Converter:
    def convert(call: Call) -> Value:
        left, right = call[0], call[1]
        if call.opset < 7 and call.get("broadcast") and "axis" in call.attributes:
            after = left.ndim - call.get("axis") - right.ndim
            right = torch.reshape(right, [*right.shape, *[1] * after])
        return function(left, right)

    return convert


def _mod(call: Call) -> Value:
    return (torch.fmod if call.get("fmod", 0) else torch.remainder)(call[0], call[1])


def _pow(call: Call) -> Value:
    base, exponent = call[0], call[1]
    if isinstance(exponent, torch.Tensor) and exponent.numel() == 1 and exponent.ndim <= base.ndim:
        number = scalar(exponent)
        if number == int(number):
            number = int(number)
        result = torch.square(base) if number == 2 else torch.pow(base, number)
    else:
        result = torch.pow(base, exponent)
    return result if result.dtype == base.dtype else result.to(base.dtype)


def _bit_shift(call: Call) -> Value:
    shift = torch.bitwise_left_shift if call.get("direction") == "LEFT" else torch.bitwise_right_shift
    # torch shifts no unsigned types but uint8
    wide = [item.to(torch.int64) for item in call.inputs]
    return shift(wide[0], wide[1]).to(call[0].dtype)


def _bitwise(function: Callable[..., Value]) -> Converter:
    """Unsigned types of 16 bits and more are computed in int64: torch has no kernels for them."""

    def convert(call: Call) -> Value:
        kind = call[0].dtype
        if kind not in (torch.uint16, torch.uint32, torch.uint64):
            return function(*call.inputs)
        return function(*[item.to(torch.int64) for item in call.inputs]).to(kind)

    return convert


def _fold(function: Callable[[Value, Value], Value]) -> Converter:
    """An op of any number of inputs, two at a time."""
    return lambda call: functools.reduce(function, call.inputs)


def _mean(call: Call) -> Value:
    total = functools.reduce(add, call.inputs)
    return total if len(call) == 1 else operator.truediv(total, float(len(call)))


def cast(value: Value, kind: torch.dtype) -> Value:
    """`value` in another dtype."""
    if value.dtype == kind:
        return value
    if kind in (torch.float16, torch.bfloat16) and not is_constant(value):
        raise NoTorchFormError(f"it computes in {str(kind).removeprefix('torch.')}; give the model in float32")
    return value.to(kind)


def _is_inf(call: Call) -> Value:
    positive, negative = call.get("detect_positive", 1), call.get("detect_negative", 1)
    if positive and negative:
        return torch.isinf(call[0])
    if not positive and not negative:
        return torch.zeros_like(call[0], dtype=torch.bool)
    return (torch.isposinf if positive else torch.isneginf)(call[0])


def _where(call: Call) -> Value:
    condition = call[0]
    if is_constant(condition) and condition.numel() and bool((condition == condition.reshape(-1)[0]).all()):
        # masks of ones, as attention without a mask writes them
        chosen = call[1] if bool(condition.reshape(-1)[0]) else call[2]
        shape = broadcast_shape(condition.shape, call[1].shape, call[2].shape)
        return chosen if list(chosen.shape) == shape else chosen.expand(shape)
    return torch.where(condition, call[1], call[2])


def _clip(call: Call) -> Value:
    if is_constant(call[1], call[2]):
        return clamp(call, call[0], call.number(1, "min", None), call.number(2, "max", None))
    raised = call[0] if call[1] is None else torch.maximum(call[0], call[1])
    return raised if call[2] is None else torch.minimum(raised, call[2])


def clamp(call: Call, value: Value, low: float | None, high: float | None) -> Value:
    """The layer or function that limits `value`.

    Args:
        call: the node.
        value: the tensor to limit.
        low: lower limit.
        high: upper limit.
    """
    if not value.dtype.is_floating_point:
        limits = torch.iinfo(value.dtype)
        whole = [
            None if low is None or low <= limits.min else int(low),
            None if high is None or high >= limits.max else int(high),
        ]
        return value if whole == [None, None] else torch.clamp(value, min=whole[0], max=whole[1])
    smallest, largest = torch.finfo(value.dtype).min, torch.finfo(value.dtype).max
    low = None if low is None or low <= smallest else low
    high = None if high is None or high >= largest else high
    if low is None and high is None:
        return value
    if low is not None and high is not None and low > high:
        low = high  # as numpy.clip
    if low == 0 and high is None:
        return call.layer(nn.ReLU(), value)
    if low == 0 and high == 6:
        return call.layer(nn.ReLU6(), value)
    if low is not None and high is not None and low < high:
        return call.layer(nn.Hardtanh(low, high), value)
    return torch.clamp(value, min=low, max=high)


def _unary(function: Callable[[Value], Value]) -> Converter:
    return lambda call: function(call[0])


_UNARY: Mapping[str, Callable[[Value], Value]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not, "Ceil": torch.ceil, "Cos": torch.cos,
    "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "IsNaN": torch.isnan,
    "Log": torch.log, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Round": torch.round, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Sqrt": torch.sqrt,
    "Tan": torch.tan, "Det": torch.det,
}  # fmt: skip

_BINARY: Mapping[str, Callable[[Value, Value], Value]] = {
    "Add": add, "Sub": sub, "Mul": mul, "Div": div,
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
}  # fmt: skip


CONVERTERS: Mapping[str, Converter] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _broadcast(function) for name, function in _BINARY.items()},
    "BitShift": _bit_shift,
    "BitwiseAnd": _bitwise(torch.bitwise_and),
    "BitwiseOr": _bitwise(torch.bitwise_or),
    "BitwiseXor": _bitwise(torch.bitwise_xor),
    "Cast": lambda call: cast(call[0], as_dtype(call.get("to"))),
    "CastLike": lambda call: cast(call[0], call[1].dtype),
    "Clip": _clip,
    "Identity": lambda call: call[0],
    "IsInf": _is_inf,
    "Max": _fold(torch.maximum),
    "Mean": _mean,
    "Min": _fold(torch.minimum),
    "Mod": _mod,
    "Pow": _pow,
    "Sum": _fold(add),
    "Where": _where,
}
"""Op -> converter."""
