"""Removing channels: many families of nets, what is kept computes what it should, and what cannot work is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.errors import PassError, TargetError
from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.prune.choose import fitting
from edgec.prune.cost import count_macs
from edgec.prune.importance import scorer
from edgec.prune.structured import Removed, remove_channels

Make = Callable[..., Any]
PARTS = ["Plain", "Residual", "Depthwise", "Concat", "Grouped", "SqueezeExcite", "Audio", "Mlp", "Shared", "Recurrent"]
NAMES = [*PARTS, "Detector", "Transposed", "Gated"]


def _outputs(graph: nn.Module, example: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        return tensors_of(graph(*[item.clone() for item in example]))


def _reasons(done: Removed) -> dict[str, str]:
    return {item.subject: item.reason for item in done.coverage}


def _same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", NAMES)
def test_every_family_loses_channels_in_multiples_and_keeps_its_outputs(name: str, scope: str, make: Make) -> None:
    graph, example = make(name)
    before = _outputs(graph, example)
    unpruned = {key: value.clone() for key, value in graph.state_dict().items()}
    done = remove_channels(graph, example, share=0.5, scope=scope, round_to=8)
    assert all(torch.equal(value, unpruned[key]) for key, value in graph.state_dict().items())
    assert [item.shape for item in _outputs(done.graph, example)] == [item.shape for item in before]
    smaller = {key: left for key, (whole, left) in done.channels.items() if left < whole}
    assert smaller
    assert all(left % 8 == 0 for left in smaller.values())
    assert {item.subject for item in done.coverage} == set(done.channels) - set(smaller)
    assert done.macs[1] < done.macs[0] == count_macs(graph, example)
    assert done.macs[1] == count_macs(done.graph, example)
    assert done.parameters[1] == sum(value.numel() for value in done.graph.parameters()) < done.parameters[0]
    assert not any(value.requires_grad or value.grad is not None for value in done.graph.parameters())
    again = remove_channels(graph, example, share=0.5, scope=scope, round_to=8)
    assert _same(again.graph, done.graph)


def _silence(graph: nn.Module, layers: tuple[str, ...], gone: torch.Tensor) -> None:
    """Make these channels zero wherever the layers put them out."""
    with torch.no_grad():
        for name in layers:
            layer: Any = graph.get_submodule(name)
            axis = 1 if getattr(layer, "transposed", False) else 0
            layer.weight.index_fill_(axis, gone, 0.0)
            if layer.bias is not None:
                layer.bias[gone] = 0.0


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "hessian"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "Gated"])
def test_channels_that_are_zero_go_first_and_nothing_changes(
    name: str, importance: str, make: Make, same: Callable[[str], tuple[tuple[str, ...], ...]]
) -> None:
    graph, example = make(name)
    source = torch.Generator().manual_seed(7)
    ways = 4 if name == "Grouped" else 1
    silenced: dict[str, list[int]] = {}
    for layers in same(name):
        first: Any = graph.get_submodule(layers[0])
        count = getattr(first, "out_channels", 0) or first.out_features
        size = count // ways
        share = (count - max(math.floor(count / 16 + 0.5), 1) * 8) / count
        places = torch.randperm(size, generator=source)[: round(size * share)]
        gone = torch.cat([places + way * size for way in range(ways)])
        _silence(graph, layers, gone)
        silenced[layers[0]] = sorted(gone.tolist())
    before = _outputs(graph, example)
    # the residual stream of the linear blocks is normalized: it is no function of zeros alone
    ignore = ("embed", "down", "down2") if name == "Mlp" else ()

    def losses(module: nn.Module) -> Iterator[torch.Tensor]:
        for seed in range(12):  # enough to wake every channel that is not zero
            sample = torch.randn(example[0].shape, generator=torch.Generator().manual_seed(seed))
            yield torch.stack([item.square().sum() for item in tensors_of(module(sample * 3))]).sum()

    done = remove_channels(graph, example, share=0.5, importance=importance, ignore=ignore, backward=losses)
    for layer, gone in silenced.items():
        whole, left = done.channels[layer]
        assert whole - left == len(gone), layer
    assert close(_outputs(done.graph, example), before, tolerance=1e-5)
    fresh = (torch.randn(example[0].shape, generator=source),)
    assert close(_outputs(done.graph, fresh), _outputs(graph, fresh), tolerance=1e-5)


def test_batch_norm_scales_choose_the_channels_and_layers_without_it_are_told(make: Make) -> None:
    graph, example = make("Plain")
    with torch.no_grad():
        graph.get_submodule("a.1").weight[4:12] = torch.linspace(0.01, 0.02, 8)
    kept = graph.get_submodule("a.0").weight[[0, 1, 2, 3, 12, 13, 14, 15]]
    done = remove_channels(graph, example, share=0.5, importance="bn-scale")
    assert torch.equal(done.graph.get_submodule("a.0").weight, kept)
    assert _reasons(done)["c"] == "no BatchNorm scales its channels"


class TwoLayers(nn.Module):
    """Hidden channels with a weight each."""

    shape = (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]))
            self.last.weight.copy_(torch.tensor([[1.0, -1.0, 0.5, 1.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


def test_taylor_and_hessian_are_what_their_formulas_say(make: Make) -> None:
    graph, example = make(TwoLayers)
    samples = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    seen: dict[str, list[float]] = {}
    import edgec.prune.structured as module

    for importance in ("taylor", "hessian"):

        def losses(net: nn.Module) -> Iterator[torch.Tensor]:
            yield net(samples)[:, 0] * torch.tensor([1.0, 2.0])

        study = module._Study(graph, example, importance, (), losses)
        seen[importance] = list(study.scored["first"].scores)
    first, last = graph.get_submodule("first").weight.detach(), graph.get_submodule("last").weight.detach()[0]
    # both layers' (weight x gradient) of a channel: last x first . x, of each sample
    effect = torch.stack([(first @ x) * last * scale for x, scale in zip(samples, (1.0, 2.0), strict=True)])
    assert seen["taylor"] == pytest.approx(effect.mean(0).abs().tolist())
    assert seen["hessian"] == pytest.approx(effect.square().mean(0).tolist())


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_importances_by_the_loss_need_data(importance: str, make: Make) -> None:
    graph, example = make("Plain")
    with pytest.raises(PassError, match=f"{importance} importance needs training data"):
        remove_channels(graph, example, share=0.5, importance=importance)
    with pytest.raises(PassError, match="there is none"):
        remove_channels(graph, example, share=0.5, importance=importance, backward=lambda _: iter(()))


def test_an_unknown_importance_is_refused() -> None:
    with pytest.raises(PassError, match='no importance is called "l3"'):
        scorer("l3")


def test_all_layers_together_lose_where_it_matters_least(make: Make) -> None:
    graph, example = make("Audio")
    with torch.no_grad():
        graph.get_submodule("b").weight[:24] *= 0.01
        graph.get_submodule("bn").weight[:24] *= 0.01
    done = remove_channels(graph, example, share=0.5, scope="global")
    assert {name: left for name, (_, left) in done.channels.items()} == {"a": 16, "b": 8, "head": 4}
    assert "no multiple of 8 channels" in _reasons(done)["a"]


@pytest.mark.parametrize(
    ("share", "left"), [(0.0, 48), (0.05, 48), (0.1, 40), (0.2, 40), (0.3, 32), (0.55, 24), (0.95, 8)]
)
def test_what_is_left_is_the_nearest_multiple_and_at_least_one(share: float, left: int, make: Make) -> None:
    graph, example = make("Plain")
    done = remove_channels(graph, example, share=share)
    assert done.channels["c"] == (48, left)
    assert ("c" in _reasons(done)) == (share == 0.05)
    assert bool(done.coverage) == (share > 0)


def test_a_multiple_is_halved_for_layers_narrower_than_two_of_it(make: Make) -> None:
    graph, example = make("Plain")
    done = remove_channels(graph, example, share=0.5, round_to=32)
    assert {name: left for name, (_, left) in done.channels.items()} == {"a.0": 8, "b.0": 16, "c": 32, "d": 5}
    assert [fitting(16, channels) for channels in (8, 15, 16, 31, 32, 33)] == [8, 8, 8, 8, 16, 16]
    assert (fitting(12, 16), fitting(4, 2), fitting(1, 1)) == (12, 4, 1)


def test_users_name_layers_and_blocks_that_keep_their_channels(make: Make) -> None:
    graph, example = make("Residual")
    done = remove_channels(graph, example, share=0.5, ignore=("stem", "c.*"))
    assert {name: left for name, (_, left) in done.channels.items()} == {
        "stem.0": 16,  # one residual stream with b.0 and d.0
        "a.0": 16,
        "b.0": 16,
        "c.0": 32,
        "d.0": 16,
        "head": 5,
    }
    assert _reasons(done)["b.0"] == "the target says so (prune.ignore)"
    with pytest.raises(TargetError, match=r'no layer of the model is called "stem\.O"') as caught:
        remove_channels(graph, example, share=0.5, ignore=("stem.O",))
    assert caught.value.hint == 'did you mean "stem.0"?'


def test_shared_recurrent_and_last_layers_are_found(make: Make) -> None:
    graph, example = make("Shared")
    reasons = _reasons(remove_channels(graph, example, share=0.5))
    assert reasons == {
        "stem": "a layer that is called more than once needs them",
        "twice": "a layer that is called more than once needs them",
        "head": "an output of the model is made of them",
    }
    graph, example = make("Recurrent")
    assert _reasons(remove_channels(graph, example, share=0.5))["embed"] == "a recurrent layer needs them"


class Tied(nn.Module):
    """Two layers with one weight, and a third whose weight an op reads too."""

    shape = (1, 16)

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode, self.read = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.free, self.head = nn.Linear(16, 32), nn.Linear(32, 3)
        self.decode.weight = self.encode.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.decode(torch.relu(self.encode(x)))
        x = self.read(torch.relu(x)) + self.read.weight.mean(0)
        return self.head(torch.relu(self.free(x)))


def test_weights_that_are_read_twice_stay_whole(make: Make) -> None:
    done = remove_channels(*make(Tied), share=0.5)
    assert {name: left for name, (_, left) in done.channels.items() if left < done.channels[name][0]} == {"free": 16}
    assert done.channels["encode"] == (16, 16)
    assert "weights that are read in more than one place" in _reasons(done)["read"]


class Fixed(nn.Module):
    """A shape written as a number, at one place of several."""

    def __init__(self, stem: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1) if stem else None
        self.conv, self.head = nn.Conv2d(16 if stem else 1, 16, 3), nn.Linear(16 * 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stem is not None:
            x = torch.relu(self.stem(x))
        return self.head(self.conv(x).view(1, 64))


def test_a_shape_written_as_a_number_is_refused_or_left_whole(make: Make) -> None:
    with pytest.raises(PassError, match=r"cannot be removed.*shape '\[1, 64\]' is invalid") as caught:
        remove_channels(*make(lambda: Fixed(stem=False), (1, 1, 4, 4)), share=0.5)
    assert "flatten or use -1" in caught.value.hint
    done = remove_channels(*make(lambda: Fixed(stem=True), (1, 1, 4, 4)), share=0.5)
    assert done.channels == {"stem": (16, 8), "conv": (16, 16), "head": (2, 2)}
    assert "shape '[1, 64]' is invalid" in _reasons(done)["conv"]


class Shuffled(nn.Module):
    """Channels in an order that only a shape written as numbers tells: pruned, it runs and computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 1), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        x = x.view(x.shape[0], 2, -1, 4, 4).transpose(1, 2).flatten(1, 2)
        return self.head(torch.relu(self.b(x)).mean((2, 3)))


class Attention(nn.Module):
    """Heads written out, and a softmax over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(16, 32)
        self.out, self.gate, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (f(x).unflatten(-1, (4, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        x = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.head(torch.softmax(self.gate(torch.relu(self.out(x))), -1))


@pytest.mark.parametrize(
    ("net", "shape", "whole"),
    [(Shuffled, (1, 3, 4, 4), {"a", "head"}), (Attention, (1, 5, 16), {"query", "key", "value", "gate", "head"})],
)
def test_ops_that_mix_channels_keep_theirs_whole(net: Any, shape: tuple[int, ...], whole: set[str], make: Make) -> None:
    done = remove_channels(*make(net, shape), share=0.5, round_to=2)
    assert set(_reasons(done)) == whole


class Constants(nn.Module):
    """A learnt scale and a learnt place for each channel, beside the layers; a buffer for each, too."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 4)
        self.last = nn.Conv2d(16, 16, 1)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 16).reshape(16, 1, 1))
        self.register_buffer("offset", torch.linspace(0, 1, 16).reshape(16, 1, 1) if buffer else torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.last(torch.relu(self.conv(x)) * self.scale + self.offset)).mean((2, 3)))


@pytest.mark.parametrize("buffer", [False, True])
def test_parameters_of_the_graph_shrink_and_buffers_hold_their_layers(buffer: bool, make: Make) -> None:
    done = remove_channels(*make(lambda: Constants(buffer), (1, 3, 4, 4)), share=0.5)
    assert done.channels["conv"] == (16, 16 if buffer else 8)
    assert done.channels["last"] == (16, 8)
    assert done.graph.get_parameter("scale").shape == (16 if buffer else 8, 1, 1)


class Heads(nn.Module):
    """An output in the middle of the net."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.head(torch.relu(self.c(x)).mean((2, 3))), x


def test_features_that_are_an_output_stay_whole(make: Make) -> None:
    done = remove_channels(*make(Heads, (1, 3, 9, 9)), share=0.5)
    assert {name: left for name, (_, left) in done.channels.items()} == {"a": 8, "b": 16, "c": 8, "head": 2}


class Classes(nn.Module):
    """An output without a gradient, beside one that has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.scores, self.sizes = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.conv(torch.relu(self.stem(x))))
        return self.scores(x).argmax(1), self.sizes(x).sum((2, 3))


def test_outputs_without_gradients_hold_their_layers(make: Make) -> None:
    done = remove_channels(*make(Classes, (1, 3, 6, 6)), share=0.5, round_to=4)
    assert done.channels == {"stem": (16, 8), "conv": (16, 16), "scores": (8, 8), "sizes": (8, 8)}
    assert "to have 16 channels" in _reasons(done)["conv"]


def test_token_ids_and_their_embedding(make: Make) -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.up = nn.Embedding(10, 16), nn.Linear(16, 32)
            self.down, self.head = nn.Linear(32, 16), nn.Linear(16, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embed(ids)
            return self.head((x + self.down(torch.relu(self.up(x)))).mean(1))

    from edgec.model.trace import trace

    torch.manual_seed(0)
    ids = (torch.tensor([[1, 2, 3, 4]]),)
    graph = trace(Text().eval(), ids).graph
    assert graph is not None
    done = remove_channels(graph, ids, share=0.5)
    assert done.channels == {"up": (32, 16), "down": (16, 8), "head": (3, 3)}
    assert done.graph.get_submodule("embed").weight.shape == (10, 8)


def test_a_model_without_layers_has_nothing_to_remove(make: Make) -> None:
    done = remove_channels(*make(nn.ReLU, (1, 4)), share=0.5)
    assert done.channels == {}
    assert [item.subject for item in done.coverage] == ["model"]
    assert done.stuck == "it has none that could"
    done = remove_channels(*make(lambda: nn.Sequential(nn.Linear(16, 16)), (1, 16)), share=0.5)
    assert done.channels == {"0": (16, 16)}
    assert _reasons(done) == {"0": "an output of the model is made of them"}
    assert done.stuck == "0: an output of the model is made of them"
    assert not remove_channels(*make("Plain"), share=0.0).stuck
