"""A module as inference needs it: without the wrappers, parametrizations and lazy layers of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_WRAPPERS: tuple[tuple[str, str], ...] = (
    ("torch.nn.parallel.data_parallel.DataParallel", "module"),
    ("torch.nn.parallel.distributed.DistributedDataParallel", "module"),
    ("torch.optim.swa_utils.AveragedModel", "module"),
    ("torch._dynamo.eval_frame.OptimizedModule", "_orig_mod"),
)
"""Classes that only pass calls on, and the attribute that holds the model."""
_WEIGHT_HOOKS: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (WeightNorm, "name", nn.utils.remove_weight_norm),
    (SpectralNorm, "name", nn.utils.remove_spectral_norm),
    (prune.BasePruningMethod, "_tensor_name", prune.remove),
)
"""Hooks that compute a weight before each call: class, attribute with the weight's name, and what makes it plain."""


def unwrapped(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The model in `module`, taken out of the wrappers that training puts around it; also gives notes."""
    inner: dict[str, str] = dict(_WRAPPERS)
    notes = []
    while (attribute := inner.get(_path(type(module)))) is not None:
        notes.append(f"the model was taken out of its {type(module).__name__}")
        module = getattr(module, attribute)
    return module, tuple(notes)


def detach_cached(module: nn.Module) -> None:
    """Cut cached tensors off the computation that gave them: a module that holds such cannot be copied."""
    for part in module.modules():
        for held in (vars(part), part._buffers):
            for name, value in held.items():
                if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                    held[name] = value.detach()


def is_parametrized(module: nn.Module) -> bool:
    """Whether a weight of `module` is computed from others by torch's parametrizations or norm hooks."""
    return any(parametrize.is_parametrized(part) or any(True for _ in _weight_hooks(part)) for part in module.modules())


def remove_parametrizations(module: nn.Module) -> tuple[str, ...]:
    """Replace weights that are computed from others by what they are; gives a note when there are such.

    Args:
        module: in eval mode.
    """
    removed = []
    for path, part in list(module.named_modules()):
        prefix = f"{path}." if path else ""
        if parametrize.is_parametrized(part):
            for name, steps in list(part.parametrizations.items()):
                kinds = "+".join(type(step).__name__.strip("_") for step in steps)
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)
                removed.append(f"{prefix}{name} ({kinds})")
        for name, kind, remove in list(_weight_hooks(part)):
            remove(part, name)
            removed.append(f"{prefix}{name} ({kind})")
    return (f"parametrizations were made plain weights: {_some(removed)}",) if removed else ()


def _weight_hooks(module: nn.Module) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Name of the weight, kind, and how it is made plain, of each of `_WEIGHT_HOOKS` on a module."""
    for hook in module._forward_pre_hooks.values():
        for kind, attribute, remove in _WEIGHT_HOOKS:
            if isinstance(hook, kind):
                yield getattr(hook, attribute), type(hook).__name__, remove


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def materialize(module: nn.Module, run: Callable[[], Any]) -> tuple[str, ...]:
    """Give lazy layers their shapes, by the run of one sample; gives notes when there are such.

    Args:
        module: in eval mode.
        run: runs a sample through it.

    Raises:
        Exception: whatever the model raises on the sample.
    """
    lazy = lazy_layers(module)
    if not lazy:
        return ()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        run()
    notes = (f"lazy layers took their shapes from the weights and the stated input: {_some(lazy)}",)
    unused = lazy_layers(module)
    for name in unused:
        module.set_submodule(name, nn.Identity())
    return (*notes, f"lazy layers that the model does not call were left out: {_some(unused)}") if unused else notes


def lazy_layers(module: nn.Module) -> list[str]:
    """Names of the layers whose shapes are not settled yet."""
    lazy = nn.modules.lazy.LazyModuleMixin
    return [name for name, part in module.named_modules() if isinstance(part, lazy)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
