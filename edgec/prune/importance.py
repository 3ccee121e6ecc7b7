"""How much each channel matters. Imports torch: only for use inside functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import nn

from edgec.errors import PassError

Importance = Literal["l1", "l2", "bn-scale", "taylor", "hessian"]
Losses = Callable[[nn.Module], Iterator[torch.Tensor]]
"""From the module to losses that depend on its parameters: of batches, or (for ``hessian``) of single samples."""
NEEDS_LOSS = ("taylor", "hessian")


def scorer(importance: str) -> Callable[[Any], torch.Tensor | None]:
    """The importance of that name: from a torch-pruning group to one score a channel of its root, or None.

    - ``l1``, ``l2``: of all weights that make or read the channel (Li et al. 2017, https://arxiv.org/abs/1608.08710).
    - ``bn-scale``: size of BatchNorm's scale (Liu et al. 2017, https://arxiv.org/abs/1708.06519).
    - ``taylor``: change of the loss to first order (Molchanov et al. 2019, https://arxiv.org/abs/1906.10771).
    - ``hessian``: change of the loss to second order, the Hessian's diagonal by squared gradients of single samples
      (LeCun et al. 1989, Optimal Brain Damage).

    All are means over the layers of a group and relative to the mean of the group's channels, so that groups compare.
    """
    from torch_pruning.pruner import importance as kinds

    if importance not in get_args(Importance):
        raise PassError(f'no importance is called "{importance}"', hint=f"known: {', '.join(get_args(Importance))}")
    made: dict[str, Callable[[], Any]] = {
        "l1": lambda: kinds.GroupMagnitudeImportance(p=1),
        "l2": lambda: kinds.GroupMagnitudeImportance(p=2),
        "bn-scale": kinds.BNScaleImportance,
        "taylor": kinds.GroupTaylorImportance,
        "hessian": kinds.GroupHessianImportance,
    }
    estimate = made[importance]()

    def score(group: Any) -> torch.Tensor | None:
        found: torch.Tensor | None = estimate(group)
        # a group without any importance is divided by its mean, which is 0
        return None if found is None else torch.nan_to_num(found.detach().double(), nan=0.0)

    return score


def accumulate_gradients(graph: nn.Module, importance: str, losses: Losses | None) -> None:
    """Leave in each parameter's ``grad`` what `importance` reads there: gradients, or means of their squares.

    torch-pruning's own sum of squares keeps the last sample only (its dictionary is asked for names, and holds
    parameters), so it is done here.

    Raises:
        PassError: there is no loss to differentiate.
    """
    if importance not in NEEDS_LOSS:
        return
    if losses is None:
        raise PassError(
            f"{importance} importance needs training data", hint='prune.importance = "l1" looks at the weights alone'
        )
    values = [value for value in graph.parameters() if value.requires_grad]
    sums = [torch.zeros_like(value) for value in values]
    count = 0
    with torch.enable_grad():
        for loss in losses(graph):
            for one in loss.reshape(-1) if importance == "hessian" else [loss.mean()]:
                found = torch.autograd.grad(one, values, retain_graph=importance == "hessian", allow_unused=True)
                count += 1
                for total, gradient in zip(sums, found, strict=True):
                    if gradient is not None:
                        total += gradient.square() if importance == "hessian" else gradient
    if not count:
        raise PassError(f"{importance} importance needs training data, and there is none")
    for value, total in zip(values, sums, strict=True):
        value.grad = total / count
