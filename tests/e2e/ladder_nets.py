"""Small nets that break plain post-training quantization, each in its own way; entries of test projects."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


class _Plain(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(x.mean((2, 3)))


class _Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.first(x))))
        x = torch.relu(self.pointwise(x))
        return self.last(x.mean((2, 3)))


class _Regression(nn.Module):
    def __init__(self, *, by_convolution: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.last = nn.Conv1d(17, 1, 1) if by_convolution else nn.Linear(17, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rare = x[:, :1].amax((2, 3)) ** 4
        features = torch.cat([torch.relu(self.first(x)).mean((2, 3)), rare], 1)
        return self.last(features[:, :, None])[:, :, 0] if isinstance(self.last, nn.Conv1d) else self.last(features)


def outlier() -> nn.Module:
    """One channel of the activations is 200 times as large as the others, and read with weights as much smaller."""
    net = _seeded(_Plain)
    with torch.no_grad():
        net.first.weight[0] *= 200
        net.second.weight[:, 0] /= 200
    return net


def dead() -> nn.Module:
    """No sample wakes four channels; the weights that read them are 300 times as large as the others."""
    net = _seeded(_Plain)
    with torch.no_grad():
        net.first.weight[:4] *= 1e-3
        net.first.bias[:4] = -1.0
        net.second.weight[:, :4] *= 300
    return net


def depthwise() -> nn.Module:
    """The channels of a depthwise layer differ by a factor of 1000."""
    net = _seeded(_Depthwise)
    scale = torch.logspace(-1.5, 1.5, 16)
    with torch.no_grad():
        net.depthwise.weight *= scale[:, None, None, None]
        net.depthwise.bias *= scale
        net.pointwise.weight /= scale[None, :, None, None]
    return net


def regression() -> nn.Module:
    """One number, from small features and one whose range is that of its rarest samples."""
    return _seeded(_Regression)


def convolved() -> nn.Module:
    """The same, by a convolution: its inputs can only have calibrated ranges."""
    return _seeded(lambda: _Regression(by_convolution=True))
