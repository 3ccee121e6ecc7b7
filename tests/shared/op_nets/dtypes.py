"""Bool, integer and half tensors among float ones; inputs and outputs of all kinds."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from op_nets.make import BOOL, F32, INT32, INT64, Net, image, plain, rows


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


NETS: dict[str, Net] = {
    "bool mask": plain(
        _masked_attention,
        ((1, 6), INT64),
        ((1, 6), BOOL),
        table=lambda: nn.Embedding(10, 16),
        qkv=lambda: nn.Linear(16, 48),
        out=lambda: nn.Linear(16, 16),
        head=lambda: nn.Linear(16, 4),
    ),
    "half": image(_half),
    "double": image(lambda net, x: (x.double() * 2 + x.double().mean()).float()),
    "int64 arithmetic": plain(
        lambda net, ids: net.last(net.table((ids + 1) * 2 % 10) + (ids * ids).unsqueeze(-1).float() * 0.01),
        ((1, 6), INT64),
        table=lambda: nn.Embedding(10, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "int64 clamp": plain(
        lambda net, ids: net.last(net.table(torch.clamp(ids, 0, 5)) + net.table(torch.cat([ids, ids], 1)[:, 6:])),
        ((1, 6), INT64),
        table=lambda: nn.Embedding(10, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "int64 reshape": plain(
        lambda net, ids: net.last(net.table(ids.reshape(2, 3).transpose(0, 1).squeeze().contiguous().view(1, 6))),
        ((1, 6), INT64),
        table=lambda: nn.Embedding(10, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "int32 mask": plain(
        lambda net, x, mask: net.last(net.first(x) * mask.unsqueeze(-1)),
        ((1, 6, 16), F32),
        ((1, 6), INT32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "bool input times": plain(
        lambda net, x, mask: net.last(net.first(x) * mask.unsqueeze(-1) + mask.sum()),
        ((1, 6, 16), F32),
        ((1, 6), BOOL),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "cat of dtypes": rows(lambda net, x: torch.cat([x, (x > 0), (x * 3).long()], -1), 48),
    "one_hot": plain(
        lambda net, ids: net.last(functional.one_hot(ids, 10).float()), ((1, 6), INT64), last=lambda: nn.Linear(10, 4)
    ),
    "where": image(lambda net, x: torch.where(x > 0, x, x * 0.1)),
    "comparison times": image(lambda net, x: x * (x > 0) + (x < 0).float()),
    "0-d input": plain(
        lambda net, x, scale: net.last(net.first(x) * scale),
        ((1, 6, 16), F32),
        ((), F32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "0-d output": plain(lambda net, x: net.last(x).mean(), ((1, 16), F32), last=lambda: nn.Linear(16, 4)),
    "batch of 3": image(lambda net, x: functional.relu(x + x.mean(0, keepdim=True)), size=(3, 8, 8, 8)),
    "several outputs": plain(
        lambda net, x: (net.last(net.first(x)), net.first(x), {"ids": net.first(x).argmax(-1)}),
        ((1, 6, 16), F32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "input as output": plain(lambda net, x: (net.last(x), x), ((1, 6, 16), F32), last=lambda: nn.Linear(16, 4)),
    "constant output": plain(
        lambda net, x: (net.last(x), net.last.bias), ((1, 6, 16), F32), last=lambda: nn.Linear(16, 4)
    ),
    "int output": plain(
        lambda net, x: (net.last(x).argmax(-1), net.last(x).topk(2)), ((1, 16), F32), last=lambda: nn.Linear(16, 4)
    ),
    "uint8 input": plain(
        lambda net, x: net.last(x.float() / 255), ((1, 3, 8, 8), torch.uint8), last=lambda: nn.Conv2d(3, 4, 3)
    ),
    "state first": plain(
        lambda net, x, h: net.rnn(x, h),
        ((1, 5, 16), F32),
        ((2, 1, 16), F32),
        rnn=lambda: nn.GRU(16, 16, 2, batch_first=True),
        int8=False,
    ),
}
