"""Zeros among the weights: which ones, how many, and where they stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgec.prune.zeros import apply_masks, choose_masks, left_dense, sparsity_of

Make = Callable[..., Any]


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_the_smallest_weights_of_each_layer_go(sparsity: float, make: Make) -> None:
    graph, example = make("Depthwise")
    whole = {name: value.detach().clone() for name, value in graph.named_parameters()}
    masks = choose_masks(graph, sparsity, "unstructured")
    assert left_dense(graph, "unstructured") == ()
    assert sparsity_of(graph) == 0.0
    apply_masks(graph, masks)
    assert sparsity_of(graph) == pytest.approx(sparsity, abs=0.01)
    for name, value in graph.named_parameters():
        if name not in masks:
            assert torch.equal(value, whole[name])
            continue
        kept = masks[name]
        assert int((~kept).sum()) == round(kept.numel() * sparsity)
        assert torch.equal(value, whole[name] * kept)
        assert whole[name][~kept].abs().max() <= whole[name][kept].abs().min()
    assert {name.rsplit(".", 1)[0] for name in masks} == {
        *(f"{block}.0" for block in ("stem", "first", "project", "expand", "second", "back")),
        "head",
    }
    assert graph(*example).isfinite().all()


def test_two_of_every_four_input_channels_stay(make: Make) -> None:
    graph, _ = make("Concat")
    whole = graph.get_submodule("b.0").weight.detach().clone()
    masks = choose_masks(graph, 0.1, "2:4")
    apply_masks(graph, masks)
    for name, mask in masks.items():
        fours = mask.movedim(1, -1).reshape(-1, 4)
        assert (fours.sum(1) == 2).all(), name
        assert mask.shape == graph.get_parameter(name).shape
    kept = masks["b.0.weight"]
    large = (whole.abs() * kept).movedim(1, -1).reshape(-1, 4).sum(1)
    assert (large >= (whole.abs() * ~kept).movedim(1, -1).reshape(-1, 4).sum(1)).all()
    assert {item.subject: item.reason for item in left_dense(graph, "2:4")} == {
        "a.0": "2:4 needs input channels in fours, and each output of it reads 3"
    }
    assert 0.45 < sparsity_of(graph) < 0.5


def test_depthwise_layers_do_not_fit_fours_and_transposed_ones_do(make: Make) -> None:
    graph, _ = make("Depthwise")
    assert {item.subject for item in left_dense(graph, "2:4")} == {"stem.0", "first.0", "second.0"}
    graph, _ = make("Transposed")
    masks = choose_masks(graph, 0.5, "2:4")
    assert (masks["up.weight"].movedim(0, -1).reshape(-1, 4).sum(1) == 2).all()  # its weight is (in, out, ...)


def test_recurrent_layers_are_told_and_nothing_asked_is_nothing_done(make: Make) -> None:
    graph, _ = make("Recurrent")
    assert choose_masks(graph, 0.0, "unstructured") == {}
    [told] = left_dense(graph, "unstructured")
    assert (told.subject, told.reason) == ("lstm", "pruning does not reach the weights inside a LSTM")
    masks = choose_masks(graph, 0.5, "unstructured")
    assert set(masks) == {"embed.weight", "middle.weight", "head.weight"}


def test_equal_weights_are_chosen_alike_each_time(make: Make) -> None:
    graph, _ = make("Plain")
    with torch.no_grad():
        graph.get_submodule("c").weight.fill_(1.0)
    first, second = (choose_masks(graph, 0.5, pattern)["c.weight"] for pattern in ("unstructured", "2:4"))
    assert torch.equal(first.flatten(), torch.arange(first.numel()) >= first.numel() // 2)
    assert torch.equal(second[0, :4], torch.tensor([False, False, True, True]))
