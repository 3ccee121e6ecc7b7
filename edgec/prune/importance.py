"""How much each channel matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from edgec.errors import PassError
from edgec.target.spec import GRADIENT_IMPORTANCES
from edgec.train.loop import keep_values

Losses = Callable[[nn.Module], Iterator[torch.Tensor]]
"""From the module to losses that depend on its parameters: of batches, or (for ``hessian``) of single samples."""


def scorer(importance: str) -> Callable[[Any], torch.Tensor | None]:
    """The importance of that name: from a torch-pruning group to one score a channel of its root, or None.

    - ``l1``, ``l2``: of the weights that make the channel, times that of the weights that read it (Li et al. 2017,
      https://arxiv.org/abs/1608.08710, looks at the first of them alone). A channel that is zero, or that is not read,
      scores 0, and scaling a channel up in one layer and down in the next changes nothing.
    - ``bn-scale``: size of BatchNorm's scale (Liu et al. 2017, https://arxiv.org/abs/1708.06519).
    - ``taylor``: change of the loss to first order (Molchanov et al. 2019, https://arxiv.org/abs/1906.10771).
    - ``hessian``: change of the loss to second order, the Hessian's diagonal by squared gradients of single samples
      (LeCun et al. 1989, Optimal Brain Damage).

    Several layers that make (or read) a channel count by their mean. Magnitudes are taken relative to the mean of a
    layer's channels: layers of a group have weights of any number and size, and so have groups that are compared.
    Changes of the loss compare as they are.
    """
    from torch_pruning.pruner import function
    from torch_pruning.pruner import importance as kinds

    made: dict[str, Callable[..., Any]] = {
        "l1": partial(kinds.GroupMagnitudeImportance, p=1),
        "l2": partial(kinds.GroupMagnitudeImportance, p=2),
        "bn-scale": kinds.BNScaleImportance,
        "taylor": kinds.GroupTaylorImportance,
        "hessian": kinds.GroupHessianImportance,
    }
    if importance not in made:
        raise PassError(f'no importance is called "{importance}"', hint=f"known: {', '.join(made)}")
    estimate = made[importance](normalizer=None)
    readers = (function.prune_conv_in_channels, function.prune_linear_in_channels)

    def mean(items: list[Any], count: int) -> torch.Tensor | None:
        # torch-pruning adds the layers up as they are, and takes the first one's size for the root's
        estimate._reduce = partial(_mean_over_layers, count=count, relative=importance not in GRADIENT_IMPORTANCES)
        gradients: torch.Tensor | None = estimate(items)
        return None if gradients is None else gradients.detach()

    def score(group: Any) -> torch.Tensor | None:
        count = len(group[0].idxs)
        if importance in GRADIENT_IMPORTANCES:
            return mean(group.items, count)
        making = mean([item for item in group.items if item.dep.handler not in readers], count)
        reading = mean([item for item in group.items if item.dep.handler in readers], count)
        if making is None or reading is None:
            return reading if making is None else making
        return making * reading

    return score


def _mean_over_layers(
    scores: Sequence[torch.Tensor], channels: Sequence[Sequence[int]], count: int, relative: bool
) -> torch.Tensor:
    """One score for each channel of the root.

    Args:
        scores: of each layer's own channels.
        channels: of the root that they belong to.
        count: of the root's channels.
        relative: to the mean of each layer.
    """
    total = torch.zeros(count, dtype=torch.float64)
    for score, places in zip(scores, channels, strict=True):
        layer = torch.zeros(count, dtype=torch.float64)
        layer.scatter_add_(0, torch.tensor(places), score.double())
        # a layer of zeros says nothing
        total += torch.nan_to_num(layer / layer.mean()) if relative else layer
    return total / len(scores)


def accumulate_gradients(graph: nn.Module, importance: str, losses: Losses | None) -> None:
    """Leave in each parameter's ``grad`` what `importance` reads there: gradients, or means of their squares.

    torch-pruning's own sum of squares keeps the last sample only (its dictionary is asked for names, and holds
    parameters), so it is done here.

    Raises:
        PassError: there is no loss to differentiate.
    """
    if importance not in GRADIENT_IMPORTANCES:
        return
    if losses is None:
        raise PassError(
            f"{importance} importance needs training data", hint='prune.importance = "l1" looks at the weights alone'
        )
    keep_values(graph)
    values = [value for value in graph.parameters() if value.requires_grad]
    sums = [torch.zeros_like(value) for value in values]
    count = 0
    with torch.enable_grad():
        for loss in losses(graph):
            for one in loss.reshape(-1) if importance == "hessian" else [loss.mean()]:
                gradients = torch.autograd.grad(one, values, retain_graph=importance == "hessian", allow_unused=True)
                count += 1
                for total, gradient in zip(sums, gradients, strict=True):
                    if gradient is not None:
                        total += gradient.square() if importance == "hessian" else gradient
    if not count:
        raise PassError(f"{importance} importance needs training data, and there is none")
    for value, total in zip(values, sums, strict=True):
        value.grad = total / count
