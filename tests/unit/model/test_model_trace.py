"""What can be captured is captured exactly, for all kinds of models; what cannot is said with its line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.model.outputs import tensors_of
from edgec.model.trace import trace

torch.set_num_threads(1)


class SamePadding(nn.Conv2d):
    """A Conv2d subclass with a forward of its own, as EfficientNet code has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = max((x.shape[-1] + 1) // 2 * 2 - 1 + 2 - x.shape[-1], 0)
        return functional.conv2d(functional.pad(x, (0, side, 0, side)), self.weight, self.bias, self.stride, groups=3)


class Lstm(nn.Module):
    """Returns a nested tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.lstm(x)


class Encoder(nn.Module):
    """Token ids in, a dict out; positions come from the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.position = nn.Parameter(torch.randn(16, 8))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        x = self.embed(ids) + self.position[torch.arange(ids.size(1))]
        if mask is not None:
            x = x * mask
        for layer in self.layers:
            x = layer(x)
        return {"hidden": x, "pooled": x.mean(1)}


class Rows(nn.Module):
    """Loops over a shape, asserts on it, and writes in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dim() == 2
        out = torch.zeros(x.shape[0], len(x[0]))
        for index in range(x.size(1)):
            out[:, index] = x[:, index] * (index + 1)
        return out


class TwoInputs(nn.Module):
    """Two inputs, a flat tuple and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.tensor([2.0, 3.0])

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a * self.scale, a @ b.T


CASES: list[tuple[nn.Module, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]] = [
    (SamePadding(3, 6, 3, stride=2, groups=3), (torch.randn(1, 3, 9, 9),), (torch.randn(1, 3, 9, 9),)),
    (Lstm(), (torch.randn(1, 6, 4),), (torch.randn(1, 6, 4),)),
    (Encoder(), (torch.randint(0, 10, (1, 7)),), (torch.randint(0, 10, (1, 7)),)),
    (Rows(), (torch.randn(2, 3),), (torch.randn(2, 3),)),
    (TwoInputs(), (torch.randn(1, 2), torch.randn(4, 2)), (torch.randn(1, 2), torch.randn(4, 2))),
]


@pytest.mark.parametrize(("module", "example", "second"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_captured_exactly(module: nn.Module, example: Any, second: Any) -> None:
    module = module.eval()
    traced = trace(module, example, second)
    assert traced.graph is not None, traced.untraceable
    third = tuple(item.roll(1, -1) for item in example)
    with torch.no_grad():
        ours = traced.graph(*third)
        assert isinstance(ours, (torch.Tensor, tuple))
        for mine, theirs in zip(tensors_of(ours), tensors_of(module(*third)), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)
    assert sum(node.op == "placeholder" for node in traced.graph.graph.nodes) == len(example)


def test_leaves_are_plain_torch_modules() -> None:
    traced = trace(SamePadding(3, 6, 3, stride=2, groups=3).eval(), (torch.randn(1, 3, 9, 9),))
    assert traced.graph is not None
    assert any(node.target is functional.conv2d for node in traced.graph.graph.nodes)


class Sequences(nn.Module):
    """Encoder and decoder of torch, with the mask of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.decode = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(target.size(1))
        return self.decode(target, self.encode(source), tgt_mask=mask)


def test_composites_are_opened_so_that_their_layers_can_be_quantized() -> None:
    module = Sequences().eval()
    example, third = ((torch.randn(1, 5, 8), torch.randn(1, 4, 8)) for _ in range(2))
    traced = trace(module, example)
    assert traced.graph is not None, traced.untraceable
    leaves = [
        type(traced.graph.get_submodule(str(n.target))) for n in traced.graph.graph.nodes if n.op == "call_module"
    ]
    assert leaves.count(nn.Linear) == 6
    assert leaves.count(nn.MultiheadAttention) == 4
    with torch.no_grad():
        assert torch.allclose(traced.graph(*third), module(*third), atol=1e-5)


class Padded(nn.Module):
    """Leaves out what is padded: torch then computes with nested tensors, and answers 0 there."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.encode(x, src_key_padding_mask=x[:, :, 0] == 0)


def test_composites_stay_whole_where_their_parts_answer_something_else() -> None:
    module = Padded().eval()
    for part in module.parameters():
        part.requires_grad_(False)
    example = torch.randn(1, 5, 8)
    example[:, 3:] = 0
    traced = trace(module, (example,))
    assert traced.graph is not None, traced.untraceable
    leaves = [n.target for n in traced.graph.graph.nodes if n.op == "call_module"]
    assert leaves == ["encode"]
    with torch.no_grad():
        assert torch.allclose(traced.graph(example), module(example), atol=1e-5)


def test_the_module_is_left_untouched_and_activations_are_unshared() -> None:
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(3, 3), relu, nn.Linear(3, 3), relu).eval()
    before = copy.deepcopy(module.state_dict())
    traced = trace(module, (torch.randn(1, 3),))
    assert traced.graph is not None
    targets = [str(node.target) for node in traced.graph.graph.nodes if node.op == "call_module"]
    assert len(set(targets)) == 4
    assert module[1] is module[3]
    assert traced.graph.get_parameter("0.weight") is not module[0].weight
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Hidden(nn.Module):
    """Branches through a Python float that came from the data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.max()) > 0 else x


class Noisy(nn.Module):
    """Another output each time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Counting(nn.Module):
    """Keeps state in Python."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Buffered(nn.Module):
    """Keeps state in a buffer, so that a second run of the graph would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(x[0])
        return x * 2


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (Hidden(), "`return x * 2 if float(x.max()) > 0 else x`"),
        (Noisy(), "not deterministic"),
        (Counting(), "not deterministic"),
        (Buffered(), "keeps state"),
    ],
)
def test_untraceable(module: nn.Module, text: str) -> None:
    traced = trace(module.eval(), (torch.ones(1, 3),), (torch.zeros(1, 3),))
    assert traced.graph is None
    assert text in traced.untraceable
