"""Ops in place become ops that are not, wherever nothing else shows what they change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.model.outputs import tensors_of
from edgec.model.samples import close, sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext
from edgec.passes.replace_in_place import ReplaceInPlaceOps, set_item, writes


class Chain(nn.Module):
    """Operators, methods, functions and modules that change what they are given, which is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Linear(8, 8), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.first(x)
        y += x
        y.mul_(0.5)
        self.relu(y)
        functional.hardtanh(y, 0.1, 0.9, inplace=True)
        functional.leaky_relu(y, 0.2, inplace=True)
        torch.sigmoid_(y)
        return y, y.view(2, 4)


class Shown(nn.Module):
    """A view that is changed, and read through what it views."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.first(x)
        z = y[:, :4]
        z.mul_(2.0)
        return y + 1


def test_later_readers_read_the_result(wrap: Any, ctx: PassContext) -> None:
    model: FloatModel = wrap(Chain(), (1, 8))
    result = ReplaceInPlaceOps().run(model, ctx)
    graph = result.model.graph
    assert graph is not None
    assert not [node for node in graph.graph.nodes if writes(node, graph)]
    assert result.summary == "replaced 5 ops in place"
    assert not result.coverage
    sample = sample_tensors(model.inputs, seed=3)
    assert model.graph is not None
    assert close(tensors_of(graph(*sample)), tensors_of(model.graph(*sample)))


def test_what_another_view_shows_stays_and_is_told(wrap: Any, ctx: PassContext) -> None:
    model = wrap(Shown(), (1, 8))
    result = ReplaceInPlaceOps().run(model, ctx)
    assert [(item.subject, item.state) for item in result.coverage] == [("mul_", "in place")]
    assert result.model is model


@pytest.mark.parametrize("value", [0.0, torch.ones(2)])
def test_set_item_makes_a_copy(value: Any) -> None:
    before = torch.zeros(3, 2) - 1
    after = set_item(before, (slice(None), 0) if isinstance(value, float) else 1, value)
    assert float(before.sum()) == -6
    assert float(after.sum()) == (-3 if isinstance(value, float) else -2)
