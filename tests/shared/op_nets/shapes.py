"""Ops that move, pick, pool, resize and reduce."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from op_nets.make import F32, Net, Token, image, plain, rows


def _in_place(net: Any, x: Tensor) -> Tensor:
    y = net.other(x)
    y += x
    y.mul_(0.5)
    return y.relu_()


NETS: dict[str, Net] = {
    "cat ranks": image(lambda net, x: torch.cat([x, x * 0.5, torch.zeros(1, 2, 8, 8)], 1), 18),
    "cat constant": rows(lambda net, x: torch.cat([net.token.expand(1, 1, 16), x], 1), token=lambda: Token()),
    "stack": image(lambda net, x: torch.stack([x, x.relu()], 2).flatten(1, 2), 16),
    "chunk": image(lambda net, x: x.chunk(2, 1)[0] + x.chunk(2, 1)[1].sigmoid(), 4),
    "split": image(lambda net, x: torch.cat([part.relu() for part in torch.split(x, [2, 6], 1)], 1)),
    "unbind": image(lambda net, x: torch.stack(x.unbind(2), 2) + x.unbind(3)[0].unsqueeze(3)),
    "topk": image(lambda net, x: x.topk(4, dim=1)[0] + x.sort(dim=1)[0][:, :4], 4),
    "topk indices": rows(lambda net, x: x.gather(1, x.topk(3, dim=1)[1])),
    "gather": rows(lambda net, x: torch.gather(x, 1, torch.zeros(1, 2, 16, dtype=torch.int64))),
    "index select": rows(lambda net, x: torch.index_select(x, 1, torch.tensor([0, 3])) + x[:, torch.tensor([1, 2])]),
    "slices": image(lambda net, x: x[:, :, ::2, 1:5] + x[..., -4:, -4:]),
    "in place": image(_in_place, other=lambda: nn.Conv2d(8, 8, 1)),
    "max min": image(lambda net, x: x - x.amax((2, 3), keepdim=True) + x.min(1, keepdim=True)[0]),
    "max of two": image(lambda net, x: torch.maximum(x, x * 0.2) + torch.minimum(x, x + 1)),
    "mean dims": image(lambda net, x: x + x.mean((2, 3), keepdim=True) + x.mean(1, keepdim=True) + x.mean()),
    "mean all": image(lambda net, x: x * torch.mean(x)),
    "mean of 3d": rows(lambda net, x: x - x.mean(-1, keepdim=True)),
    "sum std var": image(lambda net, x: (x - x.mean((1, 2, 3), keepdim=True)) / (x.std() + x.var(1, keepdim=True) + 1)),
    "pow sqrt norm": image(lambda net, x: (x.pow(2) + 1e-3).sqrt() / (x.norm(dim=1, keepdim=True) + 1) + x**2),
    "exp log": image(lambda net, x: torch.log(torch.exp(x) + 1) + x.abs().log1p()),
    "reflect pad": image(
        lambda net, x: (
            functional.pad(x, (1, 1, 2, 0), mode="reflect") + functional.pad(x, (1, 1, 2, 0), mode="replicate")
        )
    ),
    "constant pad": image(lambda net, x: functional.pad(x, (1, 2, 0, 1), value=0.7)),
    "pad modules": image(
        lambda net, x: net.a(net.b(x)), a=lambda: nn.ReflectionPad2d(1), b=lambda: nn.ConstantPad2d(1, 0.3)
    ),
    "crop": image(lambda net, x: functional.pad(x, (-1, -1, -1, -1))),
    "zero pad strided": image(
        lambda net, x: net.mid(functional.pad(x, (0, 1, 0, 1))), mid=lambda: nn.Conv2d(8, 8, 3, 2)
    ),
    "pixel shuffle": image(lambda net, x: functional.pixel_shuffle(x, 2), 2),
    "pixel unshuffle": image(lambda net, x: net.down(x), 32, down=lambda: nn.PixelUnshuffle(2)),
    "channel shuffle": image(lambda net, x: net.mix(x), mix=lambda: nn.ChannelShuffle(4)),
    "roll flip": image(lambda net, x: torch.roll(x, 1, 2) + torch.flip(x, [3])),
    "cumsum": image(lambda net, x: x.cumsum(2)),
    "grid sample": image(
        lambda net, x: functional.grid_sample(
            x,
            functional.affine_grid(
                torch.tensor([[[0.7, 0.1, 0.0], [0.0, 0.8, 0.1]]]), [1, 8, 8, 8], align_corners=False
            ),
            align_corners=False,
        )
    ),
    "nearest": image(lambda net, x: functional.interpolate(x, scale_factor=2)),
    "nearest exact": image(lambda net, x: functional.interpolate(x, (12, 10), mode="nearest-exact")),
    "bilinear resize": image(
        lambda net, x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    ),
    "bilinear corners": image(
        lambda net, x: net.up(x), up=lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    ),
    "bicubic": image(lambda net, x: functional.interpolate(x, (12, 12), mode="bicubic")),
    "area": image(lambda net, x: functional.interpolate(x, (4, 4), mode="area")),
    "linear resize": plain(
        lambda net, x: net.last(functional.interpolate(net.first(x), scale_factor=2, mode="linear")),
        ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "nearest 1d": plain(
        lambda net, x: net.last(functional.interpolate(net.first(x), scale_factor=2)),
        ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "pools": image(
        lambda net, x: (
            functional.avg_pool2d(x, 2)
            + functional.max_pool2d(x, 2)
            + functional.adaptive_avg_pool2d(x, 4)
            + functional.lp_pool2d(x, 2, 2)
        )
    ),
    "pool ceil": image(
        lambda net, x: functional.max_pool2d(x, 3, 2, ceil_mode=True) + functional.avg_pool2d(x, 3, 2, ceil_mode=True)
    ),
    "pool adaptive": image(
        lambda net, x: functional.adaptive_max_pool2d(x, 3) + functional.adaptive_avg_pool2d(x, (3, 3))
    ),
    "pool dilated": image(lambda net, x: functional.max_pool2d(x, 3, 1, 1, dilation=2)),
    "pool indices": image(lambda net, x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2)),
    "pool 1d": plain(
        lambda net, x: net.last(functional.max_pool1d(net.first(x), 2) + functional.avg_pool1d(net.first(x), 2)),
        ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "adaptive 1d": plain(
        lambda net, x: net.last(functional.adaptive_avg_pool1d(net.first(x), 3)),
        ((1, 4, 20), F32),
        first=lambda: nn.Conv1d(4, 8, 3),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "pool 3d": plain(
        lambda net, x: net.last(functional.max_pool3d(net.first(x), 2) + functional.avg_pool3d(net.first(x), 2)),
        ((1, 2, 6, 6, 6), F32),
        first=lambda: nn.Conv3d(2, 8, 3),
        last=lambda: nn.Conv3d(8, 4, 1),
    ),
    "repeat expand": image(lambda net, x: x.repeat(1, 2, 1, 1) + x[:, :1].expand(1, 16, 8, 8), 16),
    "repeat interleave": image(lambda net, x: x.repeat_interleave(2, 3)),
    "squeeze": image(lambda net, x: x.mean(3, keepdim=True).squeeze(3).unsqueeze(3).transpose(2, 3)),
    "squeeze all": image(lambda net, x: x.squeeze().unsqueeze(0)),
    "unfold fold": image(lambda net, x: functional.fold(functional.unfold(x, 2, stride=2), (8, 8), 2, stride=2)),
    "tensor unfold": image(lambda net, x: x.unfold(2, 2, 2).sum(-1)),
    "movedim": image(lambda net, x: x.movedim(1, 3).swapaxes(1, 3)),
    "view as": image(lambda net, x: x.flatten(2).view_as(x.reshape(1, 8, 64)).unflatten(2, (8, 8))),
    "tril": rows(lambda net, x: torch.tril(x @ x.transpose(1, 2)) @ x),
    "meshgrid": image(
        lambda net, x: x + torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")).sum(0)
    ),
    "scalars": image(lambda net, x: 2 * x + 1 - (3 - x) / 4 + x % 2 + x // 2),
    "scalar tensor": image(
        lambda net, x: x * net.scale.weight.sum() + torch.tensor(0.5), scale=lambda: nn.Linear(2, 2)
    ),
    "add alpha": image(lambda net, x: torch.add(x, x.relu(), alpha=0.5) + torch.sub(x, 1, alpha=2)),
    "add parameter": rows(lambda net, x: x + net.token.value * net.token.value, token=lambda: Token()),
    "add same": image(lambda net, x: (x + x) * (x + x)),
    "floor round": image(lambda net, x: torch.floor(x * 3) + torch.round(x) + x.sign()),
    "argmax": rows(lambda net, x: x * x.argmax(-1, keepdim=True)),
    "layer scale": image(lambda net, x: x * torch.full((8, 1, 1), 0.3) + x),
    "complex": rows(lambda net, x: torch.fft.rfft(x, dim=-1).abs(), 9),
    "cosine": rows(lambda net, x: x * functional.cosine_similarity(x, x.roll(1, 1), dim=-1).unsqueeze(-1)),
    "cdist": rows(lambda net, x: torch.cdist(x, x), 6),
    "relu of sums": image(lambda net, x: functional.relu(x + 1) + functional.relu(x * 2) + torch.relu(x * x)),
    "functional norm layers": image(
        lambda net, x: functional.instance_norm(x) + functional.batch_norm(x, torch.zeros(8), torch.ones(8))
    ),
    "dropout": image(lambda net, x: net.drop(functional.dropout(x, 0.5, net.training)), drop=lambda: nn.Dropout2d()),
}
