"""The arguments of a converter: one node of an ONNX graph, its inputs as values, and the recorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.recorder import Recorded, Recorder, Value

DTYPES: dict[int, torch.dtype] = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16, 6: torch.int32, 7: torch.int64,
    9: torch.bool, 10: torch.float16, 11: torch.float64, 12: torch.uint32, 13: torch.uint64, 14: torch.complex64,
    16: torch.bfloat16,
}  # fmt: skip
"""TensorProto.DataType -> torch dtype."""


class NoTorchFormError(Exception):
    """A node has no form in the torch graph.

    Attributes:
        reason: why.
        where: op and name of the innermost node; empty while that is not known.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        self.reason, self.where = reason, where
        super().__init__(f"{where}: {reason}" if where else reason)


@dataclass(frozen=True)
class Call:
    """One node to convert.

    Attributes:
        op: its type.
        name: what to call a layer that it becomes.
        opset: of the model, for the domain of the op.
        inputs: in the node's order; None where one is left out.
        attributes: by name; strings decoded, tensors and graphs as ONNX objects.
        outputs: names; empty where one is not wanted.
        recorder: where layers go.
        run_body: runs a graph attribute on values for its inputs.
    """

    op: str
    name: str
    opset: int
    inputs: Sequence[Value]
    attributes: dict[str, Any]
    outputs: Sequence[str]
    recorder: Recorder = field(repr=False)
    run_body: Callable[[Any, Sequence[Value]], list[Value]] = field(repr=False)

    def __getitem__(self, index: int) -> Value:
        """An input, or None when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def __len__(self) -> int:
        """Number of inputs."""
        return len(self.inputs)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def wants(self, index: int) -> bool:
        """Whether something reads an output."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def constant(self, index: int, what: str) -> torch.Tensor:
        """An input that has to be constant.

        Raises:
            NoTorchFormError: it depends on the model's inputs, or is left out.
        """
        value = self[index]
        if not isinstance(value, torch.Tensor):
            reason = "is missing" if value is None else "depends on the model's input data"
            raise NoTorchFormError(f"its {what} {reason}")
        return value

    def integers(self, index: int, what: str) -> list[int] | None:
        """A constant input as a list; None when it is left out."""
        if self[index] is None:
            return None
        return [int(item) for item in self.constant(index, what).reshape(-1).tolist()]

    def setting(self, index: int, name: str) -> list[int] | None:
        """The integers of a setting that older opsets have as an attribute and newer ones as an input."""
        if (given := self.attributes.get(name)) is not None:
            return [int(item) for item in given] if isinstance(given, (list, tuple)) else [int(given)]
        return self.integers(index, name)

    def number(self, index: int, name: str, default: float | None) -> float | None:
        """The number of a setting that older opsets have as an attribute and newer ones as an input.

        Args:
            index: of the input.
            name: of the attribute.
            default: where the node has neither.
        """
        if name in self.attributes:
            return float(self.attributes[name])
        if self[index] is None:
            return default
        return float(scalar(self.constant(index, name)))

    def layer(self, module: nn.Module, *arguments: Value) -> Value:
        """`module` as a layer of the graph, called on `arguments`."""
        return self.recorder.layer(self.name, module, *arguments)

    def parameter(self, tensor: torch.Tensor) -> nn.Parameter:
        """`tensor` as a layer's own parameter."""
        return self.recorder.parameter(tensor)

    def weighted(self, module: nn.Module, **tensors: torch.Tensor | None) -> Any:
        """`module` with `tensors` as its parameters, but for those that are None."""
        for name, tensor in tensors.items():
            if tensor is not None:
                setattr(module, name, self.parameter(tensor))
        return module


Converter = Callable[[Call], Value]
"""Returns the node's output, or a tuple of its outputs."""


def is_constant(*values: Value) -> bool:
    """Whether no value depends on the model's inputs."""
    return not any(isinstance(item, Recorded) for item in values)


def scalar(tensor: torch.Tensor) -> Any:
    """The Python number in a tensor of one element.

    Raises:
        NoTorchFormError: there are more or fewer.
    """
    if tensor.numel() != 1:
        raise NoTorchFormError(f"one number is expected where there are {tensor.numel()}")
    return tensor.reshape(()).item()


def as_dtype(code: int) -> torch.dtype:
    """The torch dtype of an ONNX type code.

    Raises:
        NoTorchFormError: torch has none, as for strings.
    """
    if code not in DTYPES:
        raise NoTorchFormError(f"torch has no dtype for ONNX type {code}")
    return DTYPES[code]


def axis_of(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    return axis + rank if axis < 0 else axis


def broadcast_shape(*shapes: Sequence[int]) -> list[int]:
    """The shape that values of these shapes are broadcast to."""
    rank = max(map(len, shapes))
    padded = [[1] * (rank - len(shape)) + list(shape) for shape in shapes]
    return [next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True)]
