"""Up or down: AdaRound's relaxation on a Gram matrix, then single flips."""

from __future__ import annotations

import math

import torch

_LOW, _HIGH = -0.1, 1.1
"""The rectified sigmoid reaches 0 and 1 because it is stretched this far beyond (Louizos et al. 2018)."""
_WARM = 0.2
"""Share of the steps before the regularizer begins."""
_BETA = (20.0, 2.0)
"""Its exponent falls from the first, where only values near 0 or 1 feel it, to the second."""
_RATE = 0.1
_STRENGTH = 10.0
_SWEEPS = 2
_BLOCK = 65536
"""Weights that are rounded together: what is computed from them step after step stays in the processor's cache."""


def round_by_gradient(
    weight: torch.Tensor, scale: torch.Tensor, fixed: torch.Tensor, limit: int, gram: torch.Tensor, steps: int
) -> torch.Tensor:
    """Codes of `weight`, each rounded up or down, that make ``E ||(weight - s code) x||^2`` small.

    Nagel et al. 2020, https://arxiv.org/abs/2004.10568, equations 21 to 25. All output channels are independent; each
    one's loss is divided by that of rounding to nearest, so that one strength of the regularizer fits all. Few steps
    are enough, since what the relaxation leaves half decided is settled one code at a time afterwards.

    Args:
        weight: (g, o, d).
        scale: (g, o, 1).
        fixed: (g, o, d), where the code is the nearest one.
        limit: largest code.
        gram: E x x^T, (g, d, d).
        steps: of Adam.

    Returns:
        Codes as floats, (g, o, d).
    """
    codes = (weight / scale).round().clamp(-limit, limit)
    groups, outputs, width = weight.shape
    rows = max(1, _BLOCK // width)
    together = max(1, rows // outputs)
    for group in range(0, groups, together):
        for row in range(0, outputs, rows):
            block = slice(group, group + together), slice(row, row + rows)
            parts = weight[block], scale[block], codes[block]
            floor = (parts[0] / parts[1]).floor()
            free = ~fixed[block] & (floor >= -limit) & (floor + 1 <= limit)
            rounded = _relaxed(*parts, floor, free, gram[block[0]], steps)
            codes[block] = _flipped(*parts[:2], rounded, floor, free, gram[block[0]])
    return codes


def _relaxed(
    weight: torch.Tensor,
    scale: torch.Tensor,
    nearest: torch.Tensor,
    floor: torch.Tensor,
    free: torch.Tensor,
    gram: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """Codes after `steps` of Adam on the height between floor and ceiling."""
    error = nearest * scale - weight
    reference = (torch.bmm(error, gram) * error).sum(dim=2, keepdim=True).clamp_min(1e-30)
    factor = 2 * scale / reference
    fraction = (weight / scale - floor).clamp(0, 1)
    strength = _STRENGTH / weight.shape[2]
    value = -torch.log((_HIGH - _LOW) / (fraction - _LOW) - 1)
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for step in range(steps):
        sigmoid = torch.sigmoid(value)
        stretched = sigmoid * (_HIGH - _LOW) + _LOW
        height = stretched.clamp(0, 1)
        soft = torch.where(free, floor + height, nearest) * scale
        slope = torch.bmm(soft - weight, gram) * factor
        progress = (step / steps - _WARM) / (1 - _WARM)
        if progress > 0:
            # cosine, as published; d/dh of 1 - |2h - 1|^beta
            beta = _BETA[1] + 0.5 * (_BETA[0] - _BETA[1]) * (1 + math.cos(progress * math.pi))
            centred = 2 * height - 1
            slope = slope - strength * 2 * beta * centred.sign() * centred.abs().pow(beta - 1)
        gradient = slope * (_HIGH - _LOW) * sigmoid * (1 - sigmoid)
        gradient = torch.where(free & (stretched > 0) & (stretched < 1), gradient, torch.zeros_like(gradient))
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        corrected = (second / (1 - 0.999 ** (step + 1))).sqrt().add_(1e-8)
        value = value - _RATE * first / (1 - 0.9 ** (step + 1)) / corrected
    up = torch.sigmoid(value) >= 0.5
    return torch.where(free, floor + up.to(floor.dtype), nearest)


def _flipped(
    weight: torch.Tensor,
    scale: torch.Tensor,
    codes: torch.Tensor,
    floor: torch.Tensor,
    free: torch.Tensor,
    gram: torch.Tensor,
) -> torch.Tensor:
    """Each code in turn goes to the other side where that alone lowers the loss."""
    slope = torch.bmm(codes * scale - weight, gram)
    curvature = gram.diagonal(dim1=1, dim2=2)
    for _ in range(_SWEEPS):
        for place in range(weight.shape[2]):
            step = (2 * (floor[:, :, place] - codes[:, :, place]) + 1) * scale[:, :, 0]
            change = 2 * step * slope[:, :, place] + step * step * curvature[:, place, None]
            step = torch.where((change < 0) & free[:, :, place], step, torch.zeros_like(step))
            codes[:, :, place] += step.sign()
            slope.addcmul_(step[:, :, None], gram[:, None, place, :])
    return codes
