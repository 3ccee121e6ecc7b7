"""One form for what models return: a flat list of named tensors, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from edgec.errors import ModelError

if TYPE_CHECKING:
    import torch

_NUMBERS = (bool, int, float, complex, str)
"""Types of values that a model may return beside its tensors: they are left out."""


def flatten_outputs(value: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors in what a model returned, with names: a tensor, or a container of such (`_items`), also nested.

    Dict keys and field names are names; where these are missing, names are ``output_0``, ``output_1``... None and plain
    Python numbers are left out.

    Raises:
        ModelError: something in it is neither, or it holds no tensor.
    """
    import torch

    leaves = list(_leaves(value, value))
    for _, item, _ in leaves:
        if not isinstance(item, (torch.Tensor, *_NUMBERS)):
            raise ModelError(
                f"the model returns a {type(item).__name__}, not a tensor",
                hint="return a tensor, or a tuple, list, dict or dataclass of tensors",
            )
    named = [(name, item) for name, item, _ in leaves if isinstance(item, torch.Tensor)]
    if not named:
        raise ModelError("the model returns no tensor")
    names = [name or f"output_{index}" for index, (name, _) in enumerate(named)]
    if len(set(names)) != len(names):
        names = [f"output_{index}" for index in range(len(named))]
    return [(name, tensor) for name, (_, tensor) in zip(names, named, strict=True)]


def numbers_left_out(value: Any) -> tuple[str, ...]:
    """A note for each Python number in what a model returned: artifacts return tensors only."""
    return tuple(
        f"the model returns {name or 'a value'} = {item!r}, which is not a tensor: it is left out"
        for name, item, _ in _leaves(value, value)
        if isinstance(item, _NUMBERS)
    )


def tensors_of(value: Any) -> list[torch.Tensor]:
    """`flatten_outputs` without the names."""
    return [tensor for _, tensor in flatten_outputs(value)]


def tensors_like(parts: Any, value: Any) -> list[Any]:
    """The items of `parts` at the places where `value`, of the same nesting, has its tensors."""
    import torch

    return [part for _, item, part in _leaves(value, parts) if isinstance(item, torch.Tensor)]


def is_flat(value: Any) -> bool:
    """Whether `value` is one tensor or a plain tuple of tensors: the form that a FloatModel's module returns."""
    import torch

    return isinstance(value, torch.Tensor) or (
        type(value) is tuple and all(isinstance(item, torch.Tensor) for item in value)
    )


def _leaves(value: Any, parts: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, value and part of each leaf of `value` that is not None; `parts` is gone through alongside."""
    items = _items(value)
    if items is None:
        if value is not None:
            yield name, value, parts
        return
    for key, item, pick in items:
        inner = f"{name}_{key}" if name else key if isinstance(key, str) else ""
        yield from _leaves(item, pick(parts) if item is not None else None, inner)


def _items(value: Any) -> list[tuple[str | int, Any, Callable[[Any], Any]]] | None:
    """Key, item, and how to pick it out of a container of the same form; None when `value` is not a container."""
    if isinstance(value, Mapping):
        return [(str(key), item, itemgetter(key)) for key, item in value.items()]
    if isinstance(value, (tuple, list)):
        names: Any = getattr(value, "_fields", range(len(value)))
        return [(key, item, itemgetter(at)) for at, (key, item) in enumerate(zip(names, value, strict=True))]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [item.name for item in dataclasses.fields(value)]
        return [(key, getattr(value, key), attrgetter(key)) for key in fields]
    return None
