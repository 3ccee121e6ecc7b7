"""Kinds of modules that people deploy: each gets a graph, and an ONNX file that computes the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.model import onnx_file
from edgec.model.export_onnx import export_with_notes
from edgec.model.from_module import from_python
from edgec.model.outputs import tensors_of
from edgec.model.samples import sample_tensors
from edgec.model.spec import ModelSource, TensorSpec

torch.set_num_threads(1)

SOURCE = ModelSource(format="python", path="net.py", sha256="0" * 64)
Forward = Callable[..., Any]
IMAGE = ("float32", (1, 3, 16, 16))


class Net(nn.Module):
    """Layers by name, and what is computed with them."""

    def __init__(self, run: Forward, **layers: Any) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """As `run`."""
        return self.run(self, *inputs)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def mobile(m: Any, x: torch.Tensor) -> Any:
    x = functional.hardswish(m.wide(functional.relu6(m.norm(m.stem(x)))))
    x = functional.dropout(x * functional.hardsigmoid(x.mean((2, 3), keepdim=True)), 0.2, m.training)
    return m.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def convnext(m: Any, x: torch.Tensor) -> Any:
    x = m.norm(m.stem(x))
    y = m.down(functional.gelu(m.up(m.deep(x).permute(0, 2, 3, 1))))
    return (x + (m.gamma * y).permute(0, 3, 1, 2)).mean([-2, -1])


def vit(m: Any, x: torch.Tensor) -> Any:
    x = m.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1)
    return (x + m.attend(x, x, x, need_weights=False)[0])[:, 0]


def swin_windows(m: Any, x: torch.Tensor) -> Any:
    b, c, h, w = x.shape
    x = torch.roll(x, (-2, -2), (2, 3)).view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    q, k, v = m.qkv(x).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=m.table[m.index].unsqueeze(0)).transpose(1, 2)


def cell_loop(m: Any, x: torch.Tensor) -> Any:
    h = x.new_zeros(x.size(0), 6)
    c, g, r = torch.zeros_like(h), None, None
    for step in x.unbind(1):
        h, c = m.lstm(step, (h, c))
        g = m.gru(h, g)
        r = m.rnn(g, r)
    return {"state": (h, c), "out": r}


def audio(m: Any, x: torch.Tensor) -> Any:
    x = functional.leaky_relu(m.first(functional.pad(x, (4, 0))), 0.1)
    x = x + torch.tanh(m.second(x)) * torch.sigmoid(m.second(x))
    return torch.tanh(m.last(m.up(x)))


def unet(m: Any, x: torch.Tensor) -> Any:
    a = m.down(x).relu()
    up = m.up(functional.max_pool2d(a, 2))
    gap = a.size(2) - up.size(2)
    return torch.cat((a, functional.pad(up, [0, gap, 0, gap])), 1).sigmoid()


def detect(m: Any, x: torch.Tensor) -> Any:
    b, _, h, w = (f := m.body(x)).shape
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    y = m.head(f).view(b, 2, 6, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
    y[..., 0:2] = (y[..., 0:2] * 2 - 0.5 + torch.stack((columns, rows), -1)) * m.stride
    y[..., 2:4] *= m.anchors[:, None, None]
    return {"boxes": y[..., :4].reshape(b, -1, 4), "scores": y[..., 4:].softmax(-1), "x": [f, None], "levels": 1}


def siamese(m: Any, a: torch.Tensor, b: torch.Tensor) -> Any:
    a, b = m.body(a).flatten(1), m.body(b).flatten(1)
    return functional.cosine_similarity(a, b), functional.pairwise_distance(a, b)


def text(m: Any, ids: torch.Tensor) -> Any:
    x = m.embed(ids).transpose(1, 2)
    pooled = [functional.max_pool1d(part(x).relu(), part(x).size(-1)).squeeze(-1) for part in m.parts]
    return m.head(torch.cat(pooled, 1)), functional.one_hot(ids, 2).float().cumsum(1)


def masked(m: Any, x: torch.Tensor, mask: torch.Tensor) -> Any:
    scores = (x @ x.transpose(-2, -1)).masked_fill(~mask[:, None, :], float("-inf")).softmax(-1)
    keep = (x > 0) & mask.unsqueeze(-1)
    return scores @ x, torch.where(keep, x, 0.0), (x * keep).sum(1) / keep.sum(1).clamp(min=1)


def in_place(m: Any, x: torch.Tensor) -> Any:
    y = m.conv(x)
    y += 1
    y.mul_(2).add_(y)
    y[:, 0] = 0
    y[:, 1:3] *= 2
    return m.relu(y).clamp_(0, 5)


def held(m: Any, x: torch.Tensor) -> Any:
    for weight in m.weights:
        x = x @ weight
    return m.layers["head"](m.layers["act"](x + m.scales["one"] * m.cached))


def upsampled(m: Any, x: torch.Tensor) -> Any:
    a = m.shuffle(m.conv(x))
    b = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return a + b + functional.interpolate(x, a.shape[-2:], mode="nearest-exact")


def normed(m: Any, x: torch.Tensor) -> Any:
    return m.rms(functional.normalize(m.instance(m.group(m.conv(x))), dim=1).permute(0, 2, 3, 1))


def pools(m: Any, x: torch.Tensor) -> Any:
    each = functional.adaptive_avg_pool2d(x, (5, 3)), functional.adaptive_max_pool2d(x, 3)
    return *each, functional.adaptive_avg_pool2d(x, (1, None)), functional.interpolate(x, (5, 5), mode="area")


def splits(m: Any, x: torch.Tensor) -> Any:
    a, b, c = torch.chunk(x, 3, 1)
    d, e = x.split([5, 7], dim=1)
    top, where = x.topk(3, 1)
    return torch.stack([a, b, c], 2).unbind(-1)[0], d.sum(1), e.flip(1), top, x.gather(1, where), x.argmax(1)


def rare(m: Any, x: torch.Tensor) -> Any:
    bent = functional.threshold(x, 0.1, 2.0) + x.frac() + torch.logaddexp(x, x) + torch.asinh(x)
    return bent, x.diff(dim=1), m.pair(x, x), x @ x.mT, torch.take_along_dim(x, x.argsort(1), 1)


def warped(m: Any, x: torch.Tensor) -> Any:
    grid = functional.affine_grid(m.head(x.flatten(1)).view(-1, 2, 3), list(x.size()), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def speaker(m: Any, x: torch.Tensor) -> Any:
    x, (hidden, _) = m.lstm(x)
    weights = functional.softmax(m.score(m.gru(x)[0]).squeeze(-1), -1)
    return functional.normalize((x * weights.unsqueeze(-1)).sum(1), dim=-1), hidden


def timed(m: Any, t: torch.Tensor, x: torch.Tensor) -> Any:
    return m.head(x) * t.exp(), t + 1


def autoencoder3d(m: Any, x: torch.Tensor) -> Any:
    return m.up(m.pool(m.norm(m.conv(x)).relu()))


def _norm(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer)


def _kinds() -> dict[str, tuple[nn.Module, list[tuple[str, tuple[int, ...]]]]]:
    torch.manual_seed(0)
    conv = nn.Conv2d
    heads = nn.ModuleList([nn.Conv1d(8, 4, k) for k in (2, 3)])
    weights = nn.ParameterList([torch.randn(4, 4) for _ in range(2)])
    layers = nn.ModuleDict({"act": nn.ELU(), "head": nn.Linear(4, 3)})
    return {
        "mobile": (
            Net(
                mobile,
                stem=conv(3, 8, 3, 2, 1),
                norm=nn.BatchNorm2d(8),
                wide=conv(8, 8, 3, padding=1, groups=8),
                head=nn.Linear(8, 5),
            ),
            [IMAGE],
        ),
        "convnext": (
            Net(
                convnext,
                stem=conv(3, 8, 4, 4),
                norm=ChannelNorm(8),
                deep=conv(8, 8, 7, padding=3, groups=8),
                up=nn.Linear(8, 16),
                down=nn.Linear(16, 8),
                gamma=nn.Parameter(torch.full((8,), 0.1)),
            ),
            [IMAGE],
        ),
        "vit": (
            Net(
                vit,
                patch=conv(3, 8, 8, 8),
                token=nn.Parameter(torch.randn(1, 1, 8)),
                attend=nn.MultiheadAttention(8, 2, batch_first=True),
            ),
            [IMAGE],
        ),
        "windows": (
            Net(
                swin_windows,
                qkv=nn.Linear(8, 24),
                table=nn.Parameter(torch.randn(31)),
                index=torch.arange(16)[:, None] - torch.arange(16) + 15,
            ),
            [("float32", (1, 8, 8, 8))],
        ),
        "cells": (
            Net(cell_loop, lstm=nn.LSTMCell(5, 6), gru=nn.GRUCell(6, 4), rnn=nn.RNNCell(4, 3, nonlinearity="relu")),
            [("float32", (1, 4, 5))],
        ),
        "audio": (
            Net(
                audio,
                first=_norm(nn.Conv1d(1, 8, 5)),
                second=nn.utils.weight_norm(nn.Conv1d(8, 8, 3, dilation=2, padding=2)),
                up=_norm(nn.ConvTranspose1d(8, 4, 4, 2, 1)),
                last=nn.utils.parametrizations.spectral_norm(nn.Conv1d(4, 1, 1)),
            ),
            [("float32", (1, 1, 64))],
        ),
        "unet": (Net(unet, down=conv(3, 8, 3), up=nn.ConvTranspose2d(8, 8, 2, 2)), [IMAGE]),
        "detect": (
            Net(detect, body=conv(3, 8, 3, 4, 1), head=conv(8, 12, 1), stride=8.0, anchors=torch.rand(2, 2)),
            [IMAGE],
        ),
        "siamese": (
            Net(siamese, body=nn.Sequential(conv(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))),
            [IMAGE, IMAGE],
        ),
        "text": (
            Net(text, embed=nn.Embedding(30, 8, padding_idx=0), parts=heads, head=nn.Linear(8, 2)),
            [("int64", (1, 9))],
        ),
        "masked": (Net(masked), [("float32", (1, 6, 4)), ("bool", (1, 6))]),
        "in place": (Net(in_place, conv=conv(3, 4, 3), relu=nn.ReLU(inplace=True)), [IMAGE]),
        "held": (
            Net(
                held,
                weights=weights,
                layers=layers,
                scales=nn.ParameterDict({"one": torch.randn(4)}),
                cached=nn.Parameter(torch.randn(4)) * 2,
            ),
            [("float32", (1, 4))],
        ),
        "upsampled": (Net(upsampled, conv=conv(3, 12, 3, padding=1), shuffle=nn.PixelShuffle(2)), [IMAGE]),
        "normed": (
            Net(
                normed,
                conv=conv(3, 8, 1),
                group=nn.GroupNorm(4, 8),
                instance=nn.InstanceNorm2d(8, affine=True),
                rms=nn.RMSNorm(8),
            ),
            [IMAGE],
        ),
        "pools": (Net(pools), [IMAGE]),
        "splits": (Net(splits), [("float32", (1, 12, 4))]),
        "rare": (Net(rare, pair=nn.Bilinear(6, 6, 3)), [("float32", (1, 7, 6))]),
        "warped": (Net(warped, head=nn.Linear(768, 6)), [IMAGE]),
        "speaker": (
            Net(
                speaker,
                lstm=nn.LSTM(6, 8, 2, batch_first=True),
                gru=nn.GRU(8, 4, batch_first=True, bidirectional=True),
                score=nn.Linear(8, 1),
            ),
            [("float32", (1, 10, 6))],
        ),
        "scalar": (Net(timed, head=nn.Linear(4, 4)), [("float32", ()), ("float32", (1, 4))]),
        "batch of two": (Net(timed, head=nn.Linear(4, 4)), [("float32", (2, 1)), ("float32", (2, 4))]),
        "volumes": (
            Net(
                autoencoder3d,
                conv=nn.Conv3d(2, 4, 3),
                norm=nn.BatchNorm3d(4),
                pool=nn.MaxPool3d(2),
                up=nn.ConvTranspose3d(4, 2, 2),
            ),
            [("float32", (1, 2, 8, 8, 8))],
        ),
    }


KINDS = _kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_onnx_compute_the_same(kind: str, tmp_path: Path) -> None:
    module, inputs = KINDS[kind]
    module.eval()
    specs = tuple(TensorSpec(name=f"in{at}", shape=shape, dtype=dtype) for at, (dtype, shape) in enumerate(inputs))  # type: ignore[arg-type]
    sample = sample_tensors(specs, seed=7)
    with torch.no_grad():
        wanted = [item.numpy() for item in tensors_of(module(*[item.clone() for item in sample]))]
    model = from_python(kind, SOURCE, module, specs, (), "net.py:Net")
    assert model.graph is not None, model.untraceable
    with torch.no_grad():
        ours = [item.numpy() for item in tensors_of(model.graph(*[item.clone() for item in sample]))]
    exported = export_with_notes(model, tmp_path / "model.onnx")
    assert exported.notes == ()
    theirs = [array for _, array in onnx_file.run(exported.path, specs, [item.numpy() for item in sample])]
    for found in (ours, theirs):
        assert [item.shape for item in found] == [item.shape for item in wanted]
        for one, other in zip(found, wanted, strict=True):
            scale = max(1.0, float(np.abs(other).max())) if other.size else 1.0
            assert math.isclose(float(np.abs(one.astype(float) - other).max()) / scale, 0, abs_tol=1e-5)
