"""Convolutions, matrix products, attention and recurrent layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from op_nets.make import F32, INT64, Net, image, plain, rows


def _lstm_cell(net: Any, x: Tensor) -> Tensor:
    state = (torch.zeros(1, 16), torch.zeros(1, 16))
    for step in range(3):
        state = net.cell(x[:, step], state)
    return state[0]


NETS: dict[str, Net] = {
    "conv transpose": image(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(8, 8, 2, 2)),
    "conv transpose dilated": image(
        lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, 1, dilation=2)
    ),
    "conv transpose groups": image(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, groups=8)),
    "conv transpose 1d": plain(
        lambda net, x: net.last(net.up(x)),
        ((1, 8, 12), F32),
        up=lambda: nn.ConvTranspose1d(8, 8, 4, 2, 1),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "conv3d": plain(
        lambda net, x: net.last(functional.relu(net.first(x))),
        ((1, 2, 6, 6, 6), F32),
        first=lambda: nn.Conv3d(2, 8, 3),
        last=lambda: nn.Conv3d(8, 4, 1),
    ),
    "conv transpose 3d": plain(
        lambda net, x: net.last(net.first(x)),
        ((1, 2, 4, 4, 4), F32),
        first=lambda: nn.ConvTranspose3d(2, 8, 2, 2),
        last=lambda: nn.Conv3d(8, 4, 1),
    ),
    "conv dilated": image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2)),
    "conv grouped": image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=1, groups=4)),
    "conv depthwise": image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 16, 3, groups=8), width=16),
    "conv reflect": image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
    "conv circular": image(
        lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
    ),
    "conv same": image(lambda net, x: net.mid(x), mid=lambda: nn.Conv2d(8, 8, 4, padding="same")),
    "conv1d": plain(
        lambda net, x: net.last(functional.relu(net.first(x))),
        ((1, 4, 30), F32),
        first=lambda: nn.Conv1d(4, 8, 5, 2, 2),
        last=lambda: nn.Conv1d(8, 4, 3, dilation=2, groups=2),
    ),
    "conv1d unbatched": plain(
        lambda net, x: net.last(functional.relu(net.first(x))),
        ((4, 30), F32),
        first=lambda: nn.Conv1d(4, 8, 5, 2, 2),
        last=lambda: nn.Conv1d(8, 4, 3),
    ),
    "conv1d long": plain(
        lambda net, x: net.last(functional.relu(net.first(functional.pad(x, (0, 0, 100, 100))))),
        ((1, 1, 400, 1), F32),
        first=lambda: nn.Conv2d(1, 8, (200, 1), (4, 1)),
        last=lambda: nn.Conv2d(8, 4, 1),
    ),
    "functional conv": image(
        lambda net, x: functional.conv2d(x, net.mid.weight * 2, None, 1, 1), mid=lambda: nn.Conv2d(8, 8, 3)
    ),
    "dynamic conv": image(lambda net, x: functional.conv2d(x, x.mean((2, 3)).reshape(1, 8, 1, 1).expand(8, 8, 1, 1))),
    "linear 3d": rows(lambda net, x: functional.relu(net.mid(x)), mid=lambda: nn.Linear(16, 16)),
    "linear 4d": image(lambda net, x: net.mid(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), mid=lambda: nn.Linear(8, 8)),
    "linear 1d": plain(
        lambda net, x: net.last(functional.relu(net.first(x))),
        ((16,), F32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "bilinear": rows(lambda net, x: net.mid(x, x), mid=lambda: nn.Bilinear(16, 16, 16)),
    "einsum": rows(lambda net, x: torch.einsum("bij,bkj->bik", x, x) @ x),
    "matmul": rows(lambda net, x: torch.matmul(torch.matmul(x, x.transpose(1, 2)), x)),
    "matmul broadcast": rows(lambda net, x: torch.matmul(x, torch.matmul(x.transpose(1, 2), x)[0])),
    "matmul constant": rows(lambda net, x: torch.matmul(x, net.mid.weight)[..., :16], mid=lambda: nn.Linear(16, 16)),
    "bmm addmm": rows(lambda net, x: torch.bmm(x, x.transpose(1, 2)).bmm(x) + torch.addmm(x[0], x[0, :, :6], x[0])),
    "attention": rows(
        lambda net, x: net.attend(x, x, x)[0], attend=lambda: nn.MultiheadAttention(16, 4, batch_first=True)
    ),
    "attention masked": rows(
        lambda net, x: net.attend(x, x, x, attn_mask=torch.ones(6, 6).triu(1).bool(), need_weights=False)[0],
        attend=lambda: nn.MultiheadAttention(16, 4, batch_first=True),
    ),
    "sdpa": rows(lambda net, x: functional.scaled_dot_product_attention(x, x, x, is_causal=True)),
    "lstm": rows(lambda net, x: net.rnn(x)[0], rnn=lambda: nn.LSTM(16, 16, 2, batch_first=True)),
    "bilstm": rows(lambda net, x: net.rnn(x)[0], 32, rnn=lambda: nn.LSTM(16, 16, bidirectional=True)),
    "lstm state": rows(lambda net, x: net.rnn(x)[1][0][-1], rnn=lambda: nn.LSTM(16, 16, batch_first=True)),
    "gru": rows(lambda net, x: net.rnn(x)[1][-1], rnn=lambda: nn.GRU(16, 16, batch_first=True)),
    "rnn": rows(lambda net, x: net.rnn(x)[0], rnn=lambda: nn.RNN(16, 16)),
    "lstm cell": rows(_lstm_cell, cell=lambda: nn.LSTMCell(16, 16)),
    "gru cell": rows(lambda net, x: net.cell(net.cell(x[:, 0]), x[:, 1]), cell=lambda: nn.GRUCell(16, 16)),
    "embedding bag": plain(
        lambda net, ids: net.last(net.table(ids)),
        ((1, 6), INT64),
        table=lambda: nn.EmbeddingBag(10, 16),
        last=lambda: nn.Linear(16, 4),
    ),
}
