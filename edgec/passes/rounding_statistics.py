"""Second moments of a layer's patches, for adaptive rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from edgec.passes.weight_layers import channel_axis


class RoundingStatistics:
    """Second moments of the input patches x of a layer in the float model.

    For a grouped layer everything is kept by group. With d weights an output channel and g groups, the error
    ``E ||(W - W_rounded) x||^2`` follows for any rounding from the Gram matrix ``E x x^T`` alone, at a cost that does
    not depend on samples or image size (Nagel et al. 2020, equation 20).
    """

    def __init__(self, module: Any, *, patches: int, held_out: int, seed: int) -> None:
        """Nothing seen yet.

        Args:
            module: the layer, whose weights are those of the float model.
            patches: most patches that one call adds to the moments.
            held_out: most patches that one call puts aside: so all samples that are to judge have a say.
            seed: of the choice of patches.
        """
        self.module = module
        self.groups: int = getattr(module, "groups", 1)
        self.width: int = module.weight[0].numel()
        self._patches, self._held_out = patches, held_out
        self._random = torch.Generator().manual_seed(seed)
        self.count = 0
        self._gram = torch.zeros(self.groups, self.width, self.width)
        self._sum = torch.zeros(self.groups, self.width, 1)
        self._kept: list[torch.Tensor] = []

    def add(self, source: torch.Tensor, output: torch.Tensor, *, keep: bool | None) -> None:
        """Take in one call of the layer.

        Args:
            source: its input.
            output: what it gives; only the shape matters.
            keep: put patches aside for `loss`, as data that the moments have not seen; None: of a quarter of them,
                which the moments do not see either.
        """
        total = output.numel() // output.shape[channel_axis(self.module)]
        # at random even where all are taken: those put aside are to come from everywhere in the sample
        chosen = torch.randperm(total, generator=self._random)[: self._patches]
        judging = len(chosen) if keep else len(chosen) // 4 if keep is None else 0
        aside, chosen = chosen[:judging][: self._held_out], chosen[judging:]
        if len(aside):
            self._kept.append(self._inputs(source, aside).float())
        if not len(chosen):
            return
        x = self._inputs(source, chosen).float()
        self.count += x.shape[2]
        self._gram.baddbmm_(x, x.transpose(1, 2))
        self._sum += x.sum(dim=2, keepdim=True)

    def gram(self, *, centred: bool) -> torch.Tensor:
        """``E x x^T``, (g, d, d); of x less its mean when `centred` (a bias will mend what the mean makes)."""
        mean = self._sum / self.count
        return self._gram / self.count - (mean @ mean.transpose(1, 2) if centred else 0)

    def loss(self, error: torch.Tensor, *, centred: bool) -> float:
        """Mean square of ``error x`` for an error of the weights (g, o, d), on the patches put aside."""
        total, count = 0.0, 0
        mended = error @ (self._sum / self.count) if centred else 0.0
        for x in self._kept:
            made = error @ x - mended
            total += float(made.double().square().sum())
            count += made.numel()
        return total / max(count, 1)

    def _inputs(self, source: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Input patches at the chosen positions, (g, d, positions)."""
        module = self.module
        if not hasattr(module, "kernel_size"):
            return source.reshape(-1, source.shape[-1])[chosen].t()[None]
        spatial = len(module.kernel_size)
        batched = source if source.dim() == spatial + 2 else source[None]
        if any(module._reversed_padding_repeated_twice):
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            batched = functional.pad(batched, module._reversed_padding_repeated_twice, mode=mode)
        sizes = batched.shape[2:]
        # place of each patch's first element, and of each tap after it, in the flattened padded input
        steps = [1] * spatial
        for axis in reversed(range(spatial - 1)):
            steps[axis] = steps[axis + 1] * sizes[axis + 1]
        spans = [gap * (taps - 1) for gap, taps in zip(module.dilation, module.kernel_size, strict=True)]
        places = [
            (size - span - 1) // stride + 1 for size, span, stride in zip(sizes, spans, module.stride, strict=True)
        ]
        first, rest = torch.zeros_like(chosen), chosen
        for axis in reversed(range(spatial)):
            first = first + (rest % places[axis]) * module.stride[axis] * steps[axis]
            rest = rest // places[axis]
        taps = torch.zeros(1, dtype=torch.long)
        for axis in range(spatial):
            shift = torch.arange(module.kernel_size[axis]) * module.dilation[axis] * steps[axis]
            taps = (taps[:, None] + shift).flatten()
        flat = batched.flatten(2)
        # `rest` is now the sample
        patches = flat[rest[None, :], :, first[None, :] + taps[:, None]]  # (taps, positions, channels)
        return patches.permute(2, 0, 1).reshape(self.groups, self.width, len(chosen))
