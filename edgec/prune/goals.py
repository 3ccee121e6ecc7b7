"""How much to prune for a goal other than a number of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import fx

GOALS = {"macs": "multiply-accumulates", "size": "parameters", "latency": "latency"}
"""What a goal other than channels is about."""
MOST = 0.95
"""The largest share of channels that is tried."""
NEAR = 0.05
"""What is this much beside a goal, in parts of the unpruned model's cost, is recorded as not reached."""


def share_for(
    graph: fx.GraphModule,
    example: Sequence[torch.Tensor],
    amount: float,
    goal: Literal["macs", "size"],
    *,
    scope: str = "layer",
    round_to: int = 8,
    ignore: Sequence[str] = (),
) -> float:
    """The share of channels to remove so that about `amount` of the cost goes.

    Magnitudes choose the channels while it searches, whatever chooses them in the end: how many go matters here.

    Args:
        graph: left untouched.
        example: one sample's inputs.
        amount: share of the multiply-accumulates or of the parameters to remove, 0 to 0.95.
        goal: ``macs`` or ``size``.
        scope, round_to, ignore: as of `edgec.prune.structured.remove_channels`.
    """
    from edgec.prune.structured import remove_channels

    def cost(share: float) -> float:
        done = remove_channels(graph, example, share=share, scope=scope, round_to=round_to, ignore=ignore)
        before, after = done.macs if goal == "macs" else done.parameters
        return after / before if before else 1.0

    return search_share(cost, 1 - amount, tolerance=0.005, probes=10)


def search_share(cost: Callable[[float], float], wanted: float, tolerance: float = 0.02, probes: int = 7) -> float:
    """The share of channels to remove for which `cost` is nearest to `wanted`, by bisection.

    Cost is taken to fall with the share; being a step function (channels come in multiples) or measured with noise, it
    need not hit `wanted`: the nearest probe counts, the smaller share of two that are as near.

    Args:
        cost: from a share to the cost in parts of the unpruned model's: 1 for share 0, which is not asked for.
        wanted: cost to reach, 0 to 1.
        tolerance: a probe this near ends the search.
        probes: `cost` is asked for at most so often.

    Returns:
        0 to `MOST`; 0 when nothing is nearer to `wanted` than the unpruned model.
    """
    low, high = 0.0, MOST
    best = (abs(1.0 - wanted), 0.0)
    for _ in range(probes):
        if best[0] <= tolerance:
            break
        share = (low + high) / 2
        reached = cost(share)
        best = min(best, (abs(reached - wanted), share))
        if reached > wanted:
            low = share
        else:
            high = share
    return best[1]
