"""Zeros in the weights of a float model: single weights, or two of every four."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from edgec.passes.coverage import Coverage
from edgec.passes.weight_layers import WeightLayer, is_transposed, weight_layers

Masks = dict[str, torch.Tensor]
"""By parameter name, true where a weight stays."""


def choose_masks(graph: fx.GraphModule, sparsity: float, pattern: str) -> Masks:
    """Masks for the smallest weights of each convolution and linear layer (Han et al. 2015, arXiv:1506.02626).

    Args:
        graph: of the model.
        sparsity: share of each layer's weights to set to zero, 0 to 0.95; 0 chooses none.
        pattern: ``unstructured``; or ``2:4``: the two smallest of every four neighbours, half of all whatever
            `sparsity` above 0 is (Mishra et al. 2021, https://arxiv.org/abs/2104.08378). Neighbours are input channels
            at one place of the kernel: weights lie so in kernels that multiply channels-last patches.

    Returns:
        A mask for each weight that gets zeros; `left_dense` lists the others.
    """
    if sparsity <= 0:
        return {}
    layers, _ = weight_layers(graph)
    masks = {}
    for layer in layers:
        weight = layer.module.weight.detach()
        if pattern == "unstructured":
            masks[f"{layer.name}.weight"] = _largest(weight, sparsity)
        elif not _misfit(layer):
            masks[f"{layer.name}.weight"] = _two_of_four(weight, 0 if is_transposed(layer.module) else 1)
    return masks


def left_dense(graph: fx.GraphModule, pattern: str) -> tuple[Coverage, ...]:
    """Layers that `choose_masks` has no mask for, and why."""
    layers, others = weight_layers(graph)
    coverage = [
        Coverage(subject=item.subject, state="dense", reason=item.reason.replace("corrections do", "pruning does"))
        for item in others
    ]
    if pattern == "2:4":
        reasons = {layer.name: _misfit(layer) for layer in layers}
        coverage += [Coverage(subject=name, state="dense", reason=reason) for name, reason in reasons.items() if reason]
    return tuple(coverage)


def apply_masks(graph: fx.GraphModule, masks: Mapping[str, torch.Tensor]) -> None:
    """Set to zero what the masks say, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            graph.get_parameter(name).masked_fill_(~mask, 0.0)


def sparsity_of(graph: fx.GraphModule) -> float:
    """Share of zeros among the weights of convolutions and linear layers, 0 to 1."""
    layers, _ = weight_layers(graph)
    total = sum(layer.module.weight.numel() for layer in layers)
    zeros = sum(int((layer.module.weight == 0).sum()) for layer in layers)
    return zeros / total if total else 0.0


def _largest(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """True but for the share `sparsity` of smallest magnitudes; of equal ones the first goes first."""
    order = torch.argsort(weight.abs().flatten(), stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round(weight.numel() * sparsity)]] = False
    return mask.reshape(weight.shape)


def _misfit(layer: WeightLayer) -> str:
    """Why two of every four does not fit a layer, or an empty string."""
    module = layer.module
    inputs = module.in_channels // module.groups if hasattr(module, "groups") else module.in_features
    if inputs % 4:
        return f"2:4 needs input channels in fours, and each output of it reads {inputs}"
    return ""


def _two_of_four(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """True for the two largest magnitudes of every four along `axis`; of equal ones the last stays."""
    fours = weight.abs().movedim(axis, -1)
    shape = fours.shape
    order = torch.argsort(fours.reshape(-1, 4), dim=1, stable=True)
    mask = torch.ones(order.shape, dtype=torch.bool).scatter_(1, order[:, :2], False)
    return mask.reshape(shape).movedim(-1, axis).contiguous()
