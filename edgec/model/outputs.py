"""One form for what models return: a flat list of named tensors, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgec.errors import ModelError

if TYPE_CHECKING:
    import torch


def flatten_outputs(value: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors in what a model returned (tensor, or tuple, list or dict of such; None is left out), with names.

    Dict keys are names; where there is none, names are ``output_0``, ``output_1``...

    Raises:
        ModelError: something in it is not a tensor, or there is no tensor.
    """
    found: list[tuple[str, torch.Tensor]] = []
    _collect(value, "", found)
    if not found:
        raise ModelError("the model returns no tensor")
    names = [name or f"output_{index}" for index, (name, _) in enumerate(found)]
    if len(set(names)) != len(names):
        names = [f"output_{index}" for index in range(len(found))]
    return [(name, tensor) for name, (_, tensor) in zip(names, found, strict=True)]


def _collect(value: Any, name: str, found: list[tuple[str, torch.Tensor]]) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        found.append((name, value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _collect(item, f"{name}_{key}" if name else str(key), found)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            _collect(item, f"{name}_{index}" if name else "", found)
    elif value is not None:
        raise ModelError(
            f"the model returns a {type(value).__name__}, not a tensor",
            hint="return a tensor, or a tuple, list or dict of tensors",
        )


def tensors_of(value: Any) -> list[torch.Tensor]:
    """`flatten_outputs` without the names."""
    return [tensor for _, tensor in flatten_outputs(value)]


def is_flat(value: Any) -> bool:
    """Whether `value` is one tensor or a plain tuple of tensors: the form that a FloatModel's module returns."""
    import torch

    return isinstance(value, torch.Tensor) or (
        type(value) is tuple and all(isinstance(item, torch.Tensor) for item in value)
    )
