"""The share of channels for a goal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from edgec.prune.goals import MOST, search_share, share_for
from edgec.prune.structured import remove_channels


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("goal", ["macs", "size"])
@pytest.mark.parametrize("amount", [0.3, 0.6, 0.8])
def test_the_wanted_part_of_the_cost_goes(
    amount: float, goal: Literal["macs", "size"], scope: str, make: Callable[..., Any]
) -> None:
    graph, example = make("Residual")
    options: dict[str, Any] = {"scope": scope, "round_to": 1}
    share = share_for(graph, example, amount, goal, **options)
    done = remove_channels(graph, example, share=share, **options)
    before, after = done.macs if goal == "macs" else done.parameters
    assert 1 - after / before == pytest.approx(amount, abs=0.06)
    assert share < amount  # the cost of a layer falls with its inputs too


def test_a_step_function_is_met_by_its_nearest_step(make: Callable[..., Any]) -> None:
    graph, example = make("Audio")
    share = share_for(graph, example, 0.5, "macs", round_to=8)
    costs = {
        candidate: remove_channels(graph, example, share=candidate, round_to=8).macs
        for candidate in [*(step / 20 for step in range(20)), share]
    }
    misses = {candidate: abs(after / before - 0.5) for candidate, (before, after) in costs.items()}
    assert misses[share] == min(misses.values())


@pytest.mark.parametrize("wanted", [0.9, 0.5, 0.25])
def test_bisection_meets_a_smooth_cost_in_few_probes(wanted: float) -> None:
    asked: list[float] = []

    def cost(share: float) -> float:
        asked.append(share)
        return (1 - share) ** 1.7

    found = search_share(cost, wanted)
    assert cost(found) == pytest.approx(wanted, abs=0.02)
    assert len(asked) <= 8


def test_what_cannot_be_reached_gives_the_nearest_and_noise_does_not_matter() -> None:
    assert search_share(lambda share: 1.0 - 0.1 * share, 0.2) == pytest.approx(MOST, abs=0.01)
    assert search_share(lambda share: 1.3, 0.9) == 0.0  # pruned is slower: nothing gained
    assert search_share(lambda share: 0.5, 1.0) == 0.0
    noisy = {0.475: 0.55, 0.7125: 0.35, 0.59375: 0.47}
    assert search_share(lambda share: noisy[round(share, 5)], 0.5, probes=3) == pytest.approx(0.59375)
