"""Activations and norms."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from op_nets.make import F32, Net, image, plain, rows

NETS: dict[str, Net] = {
    "prelu one": image(lambda net, x: net.act(x), act=lambda: nn.PReLU()),
    "prelu channels": image(lambda net, x: net.act(x), act=lambda: nn.PReLU(8)),
    "prelu rows": rows(lambda net, x: net.act(x), act=lambda: nn.PReLU()),
    "mish": image(lambda net, x: net.act(x), act=lambda: nn.Mish()),
    "gelu": image(lambda net, x: net.act(x), act=lambda: nn.GELU()),
    "silu": image(lambda net, x: net.act(x), act=lambda: nn.SiLU()),
    "elu": image(lambda net, x: net.act(x), act=lambda: nn.ELU(0.7)),
    "celu selu": image(lambda net, x: functional.selu(functional.celu(x))),
    "leaky relu": image(lambda net, x: net.act(x), act=lambda: nn.LeakyReLU(0.2)),
    "hardswish": image(lambda net, x: net.act(x), act=lambda: nn.Hardswish()),
    "hardsigmoid": image(lambda net, x: x * net.act(x), act=lambda: nn.Hardsigmoid()),
    "sigmoid tanh": image(lambda net, x: torch.sigmoid(x) + torch.tanh(x)),
    "softplus softsign": image(lambda net, x: functional.softplus(x) + functional.softsign(x)),
    "softmax": rows(lambda net, x: net.act(x), act=lambda: nn.Softmax(-1)),
    "softmax dims": image(lambda net, x: functional.softmax(x, 1) + functional.log_softmax(x, 2)),
    "softmax output": plain(
        lambda net, x: net.last(net.first(x)).softmax(-1),
        ((1, 16), F32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "sigmoid output": plain(
        lambda net, x: torch.sigmoid(net.last(net.first(x))),
        ((1, 16), F32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "log of sigmoid": plain(
        lambda net, x: torch.log(torch.sigmoid(4 * net.last(net.first(x)))),
        ((1, 16), F32),
        first=lambda: nn.Linear(16, 16),
        last=lambda: nn.Linear(16, 4),
    ),
    "clamp both": image(lambda net, x: torch.clamp(x, -0.5, 0.5)),
    "clamp low": image(lambda net, x: x.clamp(min=-0.1)),
    "clamp high": image(lambda net, x: torch.clamp(x, max=0.2)),
    "clamp tensors": image(lambda net, x: torch.clamp(x, x.mean() - 1, x.mean() + 1)),
    "hardtanh": image(lambda net, x: net.act(x), act=lambda: nn.Hardtanh(-0.5, 0.8)),
    "relu6": image(lambda net, x: functional.relu6(x) + functional.hardtanh(x, -0.3, 0.3)),
    "relu6 alone": image(lambda net, x: functional.relu6(functional.max_pool2d(x, 2))),
    "glu": image(lambda net, x: functional.glu(x, 1), 4),
    "hardshrink": image(lambda net, x: functional.hardshrink(x, 0.1) + functional.threshold(x, 0.1, 0.0)),
    "layer norm": rows(lambda net, x: net.norm(x), norm=lambda: nn.LayerNorm(16)),
    "layer norm plain": rows(
        lambda net, x: functional.layer_norm(x, (16,)) + net.norm(x),
        norm=lambda: nn.LayerNorm(16, elementwise_affine=False),
    ),
    "group norm": image(lambda net, x: net.norm(x), norm=lambda: nn.GroupNorm(4, 8)),
    "group norm call": image(lambda net, x: functional.group_norm(x, 4)),
    "instance norm": image(lambda net, x: net.norm(x), norm=lambda: nn.InstanceNorm2d(8)),
    "instance norm affine": image(lambda net, x: net.norm(x), norm=lambda: nn.InstanceNorm2d(8, affine=True)),
    "batch norm alone": image(lambda net, x: net.norm(functional.silu(x)), norm=lambda: nn.BatchNorm2d(8)),
    "batch norm relu": image(
        lambda net, x: functional.relu(net.norm(functional.max_pool2d(x, 2))), norm=lambda: nn.BatchNorm2d(8)
    ),
    "rms norm": rows(lambda net, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)),
    "local response": image(lambda net, x: net.norm(x), norm=lambda: nn.LocalResponseNorm(3)),
    "normalize": rows(lambda net, x: functional.normalize(x, dim=-1)),
}
