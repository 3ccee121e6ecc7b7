"""Kinds, dtypes and shapes of the values of a graph's nodes, from one sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import fx


@dataclass(frozen=True)
class Value:
    """The value of one node.

    Attributes:
        kind: ``tensor``, ``tensors`` (a tuple or list that holds one) or ``plain`` (sizes, numbers, slices).
        dtype: of a tensor: ``float32``, ``bool``...; of several the first that is not float32, if there is one.
        shape: of a tensor.
    """

    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()


def values_of(graph: fx.GraphModule, example: Sequence[torch.Tensor]) -> dict[fx.Node, Value]:
    """The value of each node of a float graph when it runs on `example` (one sample, in call order)."""
    import torch
    from torch import fx

    values: dict[fx.Node, Value] = {}

    class _Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            values[n] = _value(value)
            return value

    with torch.no_grad():
        _Recorder(graph).run(*[item.clone() for item in example])
    return values


def _value(value: Any) -> Value:
    import torch
    from torch.utils._pytree import tree_leaves

    if isinstance(value, torch.Tensor):
        return Value("tensor", _dtype(value), tuple(value.shape))
    tensors = [item for item in tree_leaves(value) if isinstance(item, torch.Tensor)]
    if not tensors:
        return Value("plain")
    dtypes = [_dtype(tensor) for tensor in tensors]
    return Value("tensors", next((item for item in dtypes if item != "float32"), "float32"))


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
