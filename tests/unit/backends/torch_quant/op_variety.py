"""Small nets, one a kind of op, each between layers that torch quantizes: what the torch backends must take or leave."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Forward = Callable[..., Any]


class One(nn.Module):
    """`call` on layers and one input."""

    def __init__(self, call: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Two(One):
    """`call` on layers and two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return self.call(self, x, y)


@dataclass(frozen=True)
class Net:
    """How to make a net, and the shapes and dtypes of its inputs."""

    make: Callable[[], nn.Module]
    inputs: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (((1, 8, 8, 8), torch.float32),)
    int8: bool = True
    """Whether something of it is computed in int8."""

    def draw(self, seed: int) -> tuple[Tensor, ...]:
        """One sample."""
        source = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(shape, generator=source) if dtype is torch.float32
            else torch.randint(0, 2 if dtype is torch.bool else 10, shape, generator=source).to(dtype)
            for shape, dtype in self.inputs
        )  # fmt: skip


def _image(
    call: Forward, width: int = 8, *, size: tuple[int, ...] = (1, 8, 8, 8), **layers: Callable[[], nn.Module]
) -> Net:
    """A convolution, `call` on its result, and a convolution on what that gives, if it has `width` channels."""

    def make() -> nn.Module:
        made = {name: layer() for name, layer in layers.items()}
        return One(lambda net, x: net.last(call(net, net.first(x))), first=nn.Conv2d(size[1], 8, 3, padding=1),
                   last=nn.Conv2d(width, 4, 1), **made)  # fmt: skip

    return Net(make, ((size, torch.float32),))


def _rows(call: Forward, width: int = 16, **layers: Callable[[], nn.Module]) -> Net:
    """As `_image`, with linear layers on (1, 6, 16)."""

    def make() -> nn.Module:
        made = {name: layer() for name, layer in layers.items()}
        return One(lambda net, x: net.last(call(net, net.first(x))), first=nn.Linear(16, 16), last=nn.Linear(width, 4),
                   **made)  # fmt: skip

    return Net(make, (((1, 6, 16), torch.float32),))


def _plain(
    call: Forward, *inputs: tuple[tuple[int, ...], torch.dtype], int8: bool = True, **layers: Callable[[], nn.Module]
) -> Net:
    def make() -> nn.Module:
        made = {name: layer() for name, layer in layers.items()}
        return (One if len(inputs) == 1 else Two)(call, **made)

    return Net(make, inputs, int8)


def _masked_attention(net: Any, ids: Tensor, mask: Tensor) -> Tensor:
    x = net.table(ids)
    q, k, v = net.qkv(x).view(1, 6, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(8)
    scores = scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(-1)
    x = x + net.out((scores @ v).transpose(1, 2).reshape(1, 6, 16))
    weight = mask.unsqueeze(-1).float()
    return net.head((x * weight).sum(1) / weight.sum(1).clamp(min=1e-9))


def _half(net: Any, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x.half() * 2 + x.half()).float()


def _lstm_cell(net: Any, x: Tensor) -> Tensor:
    state = (torch.zeros(1, 16), torch.zeros(1, 16))
    for step in range(3):
        state = net.cell(x[:, step], state)
    return state[0]


def _in_place(net: Any, x: Tensor) -> Tensor:
    y = net.other(x)
    y += x
    y.mul_(0.5)
    y[:, 0] = 0.0
    return y.relu_()


F32 = torch.float32
BOOL, INT64, INT32 = torch.bool, torch.int64, torch.int32

NETS: dict[str, Net] = {
    # dtypes
    "bool mask": _plain(
        _masked_attention, ((1, 6), INT64), ((1, 6), BOOL), table=lambda: nn.Embedding(10, 16),
        qkv=lambda: nn.Linear(16, 48), out=lambda: nn.Linear(16, 16), head=lambda: nn.Linear(16, 4),
    ),
    "half": _image(_half),
    "double": _image(lambda net, x: (x.double() * 2 + x.double().mean()).float()),
    "int64 arithmetic": _plain(
        lambda net, ids: net.last(net.table((ids + 1) * 2 % 10) + (ids * ids).unsqueeze(-1).float() * 0.01),
        ((1, 6), INT64), table=lambda: nn.Embedding(10, 16), last=lambda: nn.Linear(16, 4),
    ),
    "int64 clamp": _plain(
        lambda net, ids: net.last(net.table(torch.clamp(ids, 0, 5)) + net.table(torch.cat([ids, ids], 1)[:, 6:])),
        ((1, 6), INT64), table=lambda: nn.Embedding(10, 16), last=lambda: nn.Linear(16, 4),
    ),
    "int64 reshape": _plain(
        lambda net, ids: net.last(net.table(ids.reshape(2, 3).transpose(0, 1).squeeze().contiguous().view(1, 6))),
        ((1, 6), INT64), table=lambda: nn.Embedding(10, 16), last=lambda: nn.Linear(16, 4),
    ),
    "int32 mask": _plain(
        lambda net, x, mask: net.last(net.first(x) * mask.unsqueeze(-1)), ((1, 6, 16), F32), ((1, 6), INT32),
        first=lambda: nn.Linear(16, 16), last=lambda: nn.Linear(16, 4),
    ),
    "bool input times": _plain(
        lambda net, x, mask: net.last(net.first(x) * mask.unsqueeze(-1) + mask.sum()), ((1, 6, 16), F32), ((1, 6), BOOL),
        first=lambda: nn.Linear(16, 16), last=lambda: nn.Linear(16, 4),
    ),
    "cat of dtypes": _rows(lambda net, x: torch.cat([x, (x > 0), (x * 3).long()], -1), 48),
    "one_hot": _plain(
        lambda net, ids: net.last(F.one_hot(ids, 10).float()), ((1, 6), INT64), last=lambda: nn.Linear(10, 4)
    ),
    "where": _image(lambda net, x: torch.where(x > 0, x, x * 0.1)),
    "comparison times": _image(lambda net, x: x * (x > 0) + (x < 0).float()),
    # activations
    "prelu one": _image(lambda net, x: net.act(x), act=lambda: nn.PReLU()),
    "prelu channels": _image(lambda net, x: net.act(x), act=lambda: nn.PReLU(8)),
    "prelu rows": _rows(lambda net, x: net.act(x), act=lambda: nn.PReLU()),
    "mish": _image(lambda net, x: net.act(x), act=lambda: nn.Mish()),
    "gelu": _image(lambda net, x: net.act(x), act=lambda: nn.GELU()),
    "silu": _image(lambda net, x: net.act(x), act=lambda: nn.SiLU()),
    "elu": _image(lambda net, x: net.act(x), act=lambda: nn.ELU(0.7)),
    "celu selu": _image(lambda net, x: F.selu(F.celu(x))),
    "leaky relu": _image(lambda net, x: net.act(x), act=lambda: nn.LeakyReLU(0.2)),
    "hardswish": _image(lambda net, x: net.act(x), act=lambda: nn.Hardswish()),
    "hardsigmoid": _image(lambda net, x: x * net.act(x), act=lambda: nn.Hardsigmoid()),
    "sigmoid tanh": _image(lambda net, x: torch.sigmoid(x) + torch.tanh(x)),
    "softplus softsign": _image(lambda net, x: F.softplus(x) + F.softsign(x)),
    "softmax": _rows(lambda net, x: net.act(x), act=lambda: nn.Softmax(-1)),
    "softmax dims": _image(lambda net, x: F.softmax(x, 1) + F.log_softmax(x, 2)),
    "softmax output": _plain(
        lambda net, x: net.last(net.first(x)).softmax(-1), ((1, 16), F32), first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "sigmoid output": _plain(
        lambda net, x: torch.sigmoid(net.last(net.first(x))), ((1, 16), F32), first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "clamp both": _image(lambda net, x: torch.clamp(x, -0.5, 0.5)),
    "clamp low": _image(lambda net, x: x.clamp(min=-0.1)),
    "clamp high": _image(lambda net, x: torch.clamp(x, max=0.2)),
    "clamp tensors": _image(lambda net, x: torch.clamp(x, x.mean() - 1, x.mean() + 1)),
    "hardtanh": _image(lambda net, x: net.act(x), act=lambda: nn.Hardtanh(-0.5, 0.8)),
    "relu6": _image(lambda net, x: F.relu6(x) + F.hardtanh(x, -0.3, 0.3)),
    "relu6 alone": _image(lambda net, x: F.relu6(F.max_pool2d(x, 2))),
    "glu": _image(lambda net, x: F.glu(x, 1), 4),
    "hardshrink": _image(lambda net, x: F.hardshrink(x, 0.1) + F.threshold(x, 0.1, 0.0)),
    # norms
    "layer norm": _rows(lambda net, x: net.norm(x), norm=lambda: nn.LayerNorm(16)),
    "layer norm plain": _rows(lambda net, x: F.layer_norm(x, (16,)) + net.norm(x),
                              norm=lambda: nn.LayerNorm(16, elementwise_affine=False)),
    "group norm": _image(lambda net, x: net.norm(x), norm=lambda: nn.GroupNorm(4, 8)),
    "group norm call": _image(lambda net, x: F.group_norm(x, 4)),
    "instance norm": _image(lambda net, x: net.norm(x), norm=lambda: nn.InstanceNorm2d(8)),
    "instance norm affine": _image(lambda net, x: net.norm(x), norm=lambda: nn.InstanceNorm2d(8, affine=True)),
    "batch norm alone": _image(lambda net, x: net.norm(F.silu(x)), norm=lambda: nn.BatchNorm2d(8)),
    "batch norm relu": _image(lambda net, x: F.relu(net.norm(F.max_pool2d(x, 2))), norm=lambda: nn.BatchNorm2d(8)),
    "rms norm": _rows(lambda net, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)),
    "local response": _image(lambda net, x: net.norm(x), norm=lambda: nn.LocalResponseNorm(3)),
    "normalize": _rows(lambda net, x: F.normalize(x, dim=-1)),
    # products
    "conv transpose": _image(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(8, 8, 2, 2)),
    "conv transpose dilated": _image(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, 1, dilation=2)),
    "conv transpose groups": _image(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, groups=8)),
    "conv transpose 1d": _plain(
        lambda net, x: net.last(net.up(x)), ((1, 8, 12), F32), up=lambda: nn.ConvTranspose1d(8, 8, 4, 2, 1),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "conv3d": _plain(
        lambda net, x: net.last(F.relu(net.first(x))), ((1, 2, 6, 6, 6), F32), first=lambda: nn.Conv3d(2, 8, 3),
        last=lambda: nn.Conv3d(8, 4, 1),
    ),
    "conv transpose 3d": _plain(
        lambda net, x: net.last(net.first(x)), ((1, 2, 4, 4, 4), F32), first=lambda: nn.ConvTranspose3d(2, 8, 2, 2),
        last=lambda: nn.Conv3d(8, 4, 1),
    ),
    "conv dilated": _image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2)),
    "conv grouped": _image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=1, groups=4)),
    "conv depthwise": _image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 16, 3, groups=8), width=16),
    "conv reflect": _image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
    "conv circular": _image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")),
    "conv same": _image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 4, padding="same")),
    "conv1d": _plain(
        lambda net, x: net.last(F.relu(net.first(x))), ((1, 4, 30), F32), first=lambda: nn.Conv1d(4, 8, 5, 2, 2),
        last=lambda: nn.Conv1d(8, 4, 3, dilation=2, groups=2),
    ),
    "conv1d unbatched": _plain(
        lambda net, x: net.last(F.relu(net.first(x))), ((4, 30), F32), first=lambda: nn.Conv1d(4, 8, 5, 2, 2),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "conv1d long": _plain(
        lambda net, x: net.last(F.relu(net.first(F.pad(x, (0, 0, 100, 100))))), ((1, 1, 400, 1), F32),
        first=lambda: nn.Conv2d(1, 8, (200, 1), (4, 1)), last=lambda: nn.Conv2d(8, 4, 1),
    ),
    "functional conv": _image(lambda net, x: F.conv2d(x, net.mid.weight * 2, None, 1, 1), mid=lambda: nn.Conv2d(8, 8, 3)),
    "dynamic conv": _image(lambda net, x: F.conv2d(x, x.mean((2, 3)).reshape(1, 8, 1, 1).expand(8, 8, 1, 1))),
    "linear 3d": _rows(lambda net, x: F.relu(net.mid(x)), mid=lambda: nn.Linear(16, 16)),
    "linear 4d": _image(lambda net, x: net.mid(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), mid=lambda: nn.Linear(8, 8)),
    "linear 1d": _plain(lambda net, x: net.last(F.relu(net.first(x))), ((16,), F32), first=lambda: nn.Linear(16, 16),
                        last=lambda: nn.Linear(16, 4)),
    "bilinear": _rows(lambda net, x: net.mid(x, x), mid=lambda: nn.Bilinear(16, 16, 16)),
    "einsum": _rows(lambda net, x: torch.einsum("bij,bkj->bik", x, x) @ x),
    "matmul": _rows(lambda net, x: torch.matmul(torch.matmul(x, x.transpose(1, 2)), x)),
    "matmul broadcast": _rows(lambda net, x: torch.matmul(x, torch.matmul(x.transpose(1, 2), x)[0])),
    "matmul constant": _rows(lambda net, x: torch.matmul(x, net.mid.weight)[..., :16], mid=lambda: nn.Linear(16, 16)),
    "bmm addmm": _rows(lambda net, x: torch.bmm(x, x.transpose(1, 2)).bmm(x) + torch.addmm(x[0], x[0, :, :6], x[0])),
    "attention": _rows(lambda net, x: net.attend(x, x, x)[0], attend=lambda: nn.MultiheadAttention(16, 4, batch_first=True)),
    "attention masked": _rows(
        lambda net, x: net.attend(x, x, x, attn_mask=torch.ones(6, 6).triu(1).bool(), need_weights=False)[0],
        attend=lambda: nn.MultiheadAttention(16, 4, batch_first=True),
    ),
    "sdpa": _rows(lambda net, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
    "lstm": _rows(lambda net, x: net.rnn(x)[0], rnn=lambda: nn.LSTM(16, 16, 2, batch_first=True)),
    "bilstm": _rows(lambda net, x: net.rnn(x)[0], 32, rnn=lambda: nn.LSTM(16, 16, bidirectional=True)),
    "lstm state": _rows(lambda net, x: net.rnn(x)[1][0][-1], rnn=lambda: nn.LSTM(16, 16, batch_first=True)),
    "gru": _rows(lambda net, x: net.rnn(x)[1][-1], rnn=lambda: nn.GRU(16, 16, batch_first=True)),
    "rnn": _rows(lambda net, x: net.rnn(x)[0], rnn=lambda: nn.RNN(16, 16)),
    "lstm cell": _rows(_lstm_cell, cell=lambda: nn.LSTMCell(16, 16)),
    "gru cell": _rows(lambda net, x: net.cell(net.cell(x[:, 0]), x[:, 1]), cell=lambda: nn.GRUCell(16, 16)),
    "embedding bag": _plain(
        lambda net, ids: net.last(net.table(ids)), ((1, 6), INT64), table=lambda: nn.EmbeddingBag(10, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    # shapes
    "cat ranks": _image(lambda net, x: torch.cat([x, x * 0.5, torch.zeros(1, 2, 8, 8)], 1), 18),
    "cat constant": _rows(lambda net, x: torch.cat([net.token.expand(1, 1, 16), x], 1), token=lambda: _Token()),
    "stack": _image(lambda net, x: torch.stack([x, x.relu()], 2).flatten(1, 2), 16),
    "chunk": _image(lambda net, x: x.chunk(2, 1)[0] + x.chunk(2, 1)[1].sigmoid(), 4),
    "split": _image(lambda net, x: torch.cat([part.relu() for part in torch.split(x, [2, 6], 1)], 1)),
    "unbind": _image(lambda net, x: torch.stack(x.unbind(2), 2) + x.unbind(3)[0].unsqueeze(3)),
    "topk": _image(lambda net, x: x.topk(4, dim=1)[0] + x.sort(dim=1)[0][:, :4], 4),
    "topk indices": _rows(lambda net, x: x.gather(1, x.topk(3, dim=1)[1])),
    "gather": _rows(lambda net, x: torch.gather(x, 1, torch.zeros(1, 2, 16, dtype=torch.int64))),
    "index select": _rows(lambda net, x: torch.index_select(x, 1, torch.tensor([0, 3])) + x[:, torch.tensor([1, 2])]),
    "slices": _image(lambda net, x: x[:, :, ::2, 1:5] + x[..., -4:, -4:]),
    "in place": _image(_in_place, other=lambda: nn.Conv2d(8, 8, 1)),
    "max min": _image(lambda net, x: x - x.amax((2, 3), keepdim=True) + x.min(1, keepdim=True)[0]),
    "max of two": _image(lambda net, x: torch.maximum(x, x * 0.2) + torch.minimum(x, x + 1)),
    "mean dims": _image(lambda net, x: x + x.mean((2, 3), keepdim=True) + x.mean(1, keepdim=True) + x.mean()),
    "mean all": _image(lambda net, x: x * torch.mean(x)),
    "mean of 3d": _rows(lambda net, x: x - x.mean(-1, keepdim=True)),
    "sum std var": _image(lambda net, x: (x - x.mean((1, 2, 3), keepdim=True)) / (x.std() + x.var(1, keepdim=True) + 1)),
    "pow sqrt norm": _image(lambda net, x: (x.pow(2) + 1e-3).sqrt() / (x.norm(dim=1, keepdim=True) + 1) + x**2),
    "exp log": _image(lambda net, x: torch.log(torch.exp(x) + 1) + x.abs().log1p()),
    "reflect pad": _image(lambda net, x: F.pad(x, (1, 1, 2, 0), mode="reflect") + F.pad(x, (1, 1, 2, 0), mode="replicate")),
    "constant pad": _image(lambda net, x: F.pad(x, (1, 2, 0, 1), value=0.7)),
    "pad modules": _image(lambda net, x: net.a(net.b(x)), a=lambda: nn.ReflectionPad2d(1), b=lambda: nn.ConstantPad2d(1, 0.3)),
    "crop": _image(lambda net, x: F.pad(x, (-1, -1, -1, -1))),
    "zero pad strided": _image(lambda net, x: net.mid(F.pad(x, (0, 1, 0, 1))), mid=lambda: nn.Conv2d(8, 8, 3, 2)),
    "pixel shuffle": _image(lambda net, x: F.pixel_shuffle(x, 2), 2),
    "pixel unshuffle": _image(lambda net, x: net.down(x), 32, down=lambda: nn.PixelUnshuffle(2)),
    "channel shuffle": _image(lambda net, x: net.mix(x), mix=lambda: nn.ChannelShuffle(4)),
    "roll flip": _image(lambda net, x: torch.roll(x, 1, 2) + torch.flip(x, [3])),
    "cumsum": _image(lambda net, x: x.cumsum(2)),
    "grid sample": _image(
        lambda net, x: F.grid_sample(x, F.affine_grid(torch.tensor([[[0.7, 0.1, 0.0], [0.0, 0.8, 0.1]]]), [1, 8, 8, 8],
                                                      align_corners=False), align_corners=False)
    ),
    "nearest": _image(lambda net, x: F.interpolate(x, scale_factor=2)),
    "nearest exact": _image(lambda net, x: F.interpolate(x, (12, 10), mode="nearest-exact")),
    "bilinear resize": _image(lambda net, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)),
    "bilinear corners": _image(lambda net, x: net.up(x), up=lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
    "bicubic": _image(lambda net, x: F.interpolate(x, (12, 12), mode="bicubic")),
    "area": _image(lambda net, x: F.interpolate(x, (4, 4), mode="area")),
    "linear resize": _plain(
        lambda net, x: net.last(F.interpolate(net.first(x), scale_factor=2, mode="linear")), ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3), last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "nearest 1d": _plain(
        lambda net, x: net.last(F.interpolate(net.first(x), scale_factor=2)), ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3), last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "pools": _image(lambda net, x: F.avg_pool2d(x, 2) + F.max_pool2d(x, 2) + F.adaptive_avg_pool2d(x, 4) + F.lp_pool2d(x, 2, 2)),
    "pool ceil": _image(lambda net, x: F.max_pool2d(x, 3, 2, ceil_mode=True) + F.avg_pool2d(x, 3, 2, ceil_mode=True)),
    "pool adaptive": _image(lambda net, x: F.adaptive_max_pool2d(x, 3) + F.adaptive_avg_pool2d(x, (3, 3))),
    "pool dilated": _image(lambda net, x: F.max_pool2d(x, 3, 1, 2, dilation=2)),
    "pool indices": _image(lambda net, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
    "pool 1d": _plain(
        lambda net, x: net.last(F.max_pool1d(net.first(x), 2) + F.avg_pool1d(net.first(x), 2)), ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3), last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "adaptive 1d": _plain(
        lambda net, x: net.last(F.adaptive_avg_pool1d(net.first(x), 3)), ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3), last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "pool 3d": _plain(
        lambda net, x: net.last(F.max_pool3d(net.first(x), 2) + F.avg_pool3d(net.first(x), 2)), ((1, 2, 6, 6, 6), F32),
        first=lambda: nn.Conv3d(2, 8, 3), last=lambda: nn.Conv3d(8, 4, 1),
    ),
    "repeat expand": _image(lambda net, x: x.repeat(1, 2, 1, 1) + x[:, :1].expand(1, 16, 8, 8), 16),
    "repeat interleave": _image(lambda net, x: x.repeat_interleave(2, 3)),
    "squeeze": _image(lambda net, x: x.mean(3, keepdim=True).squeeze(3).unsqueeze(3).transpose(2, 3)),
    "squeeze all": _image(lambda net, x: x.squeeze().unsqueeze(0)),
    "unfold fold": _image(lambda net, x: F.fold(F.unfold(x, 2, stride=2), (8, 8), 2, stride=2)),
    "tensor unfold": _image(lambda net, x: x.unfold(2, 2, 2).sum(-1)),
    "movedim": _image(lambda net, x: x.movedim(1, 3).swapaxes(1, 3)),
    "view as": _image(lambda net, x: x.flatten(2).view_as(x.reshape(1, 8, 64)).unflatten(2, (8, 8))),
    "tril": _rows(lambda net, x: torch.tril(x @ x.transpose(1, 2)) @ x),
    "meshgrid": _image(lambda net, x: x + torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")).sum(0)),
    "scalars": _image(lambda net, x: 2 * x + 1 - (3 - x) / 4 + x % 2 + x // 2),
    "scalar tensor": _image(lambda net, x: x * net.scale.weight.sum() + torch.tensor(0.5), scale=lambda: nn.Linear(2, 2)),
    "add alpha": _image(lambda net, x: torch.add(x, x.relu(), alpha=0.5) + torch.sub(x, 1, alpha=2)),
    "add parameter": _rows(lambda net, x: x + net.token.value * net.token.value, token=lambda: _Token()),
    "add same": _image(lambda net, x: (x + x) * (x + x)),
    "floor round": _image(lambda net, x: torch.floor(x * 3) + torch.round(x) + x.sign()),
    "argmax": _rows(lambda net, x: x * x.argmax(-1, keepdim=True)),
    "layer scale": _image(lambda net, x: x * torch.full((8, 1, 1), 0.3) + x),
    "complex": _rows(lambda net, x: torch.fft.rfft(x, dim=-1).abs(), 9),
    "cosine": _rows(lambda net, x: x * F.cosine_similarity(x, x.roll(1, 1), dim=-1).unsqueeze(-1)),
    "cdist": _rows(lambda net, x: torch.cdist(x, x), 6),
    "relu of sums": _image(lambda net, x: F.relu(x + 1) + F.relu(x * 2) + torch.relu(x * x)),
    "functional norm layers": _image(lambda net, x: F.instance_norm(x) + F.batch_norm(x, torch.zeros(8), torch.ones(8))),
    "quantized dropout": _image(lambda net, x: net.drop(F.dropout(x, 0.5, net.training)), drop=lambda: nn.Dropout2d()),
    # inputs and outputs
    "0-d input": _plain(
        lambda net, x, scale: net.last(net.first(x) * scale), ((1, 6, 16), F32), ((), F32), first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "0-d output": _plain(lambda net, x: net.last(x).mean(), ((1, 16), F32), last=lambda: nn.Linear(16, 4)),
    "batch of 3": _image(lambda net, x: F.relu(x + x.mean(0, keepdim=True)), size=(3, 8, 8, 8)),
    "several outputs": _plain(
        lambda net, x: (net.last(net.first(x)), net.first(x), {"ids": net.first(x).argmax(-1)}), ((1, 6, 16), F32),
        first=lambda: nn.Linear(16, 16), last=lambda: nn.Linear(16, 4),
    ),
    "input as output": _plain(lambda net, x: (net.last(x), x), ((1, 6, 16), F32), last=lambda: nn.Linear(16, 4)),
    "constant output": _plain(
        lambda net, x: (net.last(x), net.last.bias), ((1, 6, 16), F32), last=lambda: nn.Linear(16, 4)
    ),
    "int output": _plain(
        lambda net, x: (net.last(x).argmax(-1), net.last(x).topk(2)), ((1, 16), F32), last=lambda: nn.Linear(16, 4)
    ),
    "uint8 input": _plain(
        lambda net, x: net.last(x.float() / 255), ((1, 3, 8, 8), torch.uint8), last=lambda: nn.Conv2d(3, 4, 3)
    ),
    "state first": _plain(
        lambda net, x, h: net.rnn(x, h), ((1, 5, 16), F32), ((2, 1, 16), F32),
        rnn=lambda: nn.GRU(16, 16, 2, batch_first=True), int8=False,
    ),
}  # fmt: skip


class _Token(nn.Module):
    """Holds a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, 1, 16))

    def expand(self, *sizes: int) -> Tensor:
        """The parameter, expanded."""
        return self.value.expand(*sizes)
