"""A project folder with small models in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

ENTRY = '''
import torch
from torch import nn
from blocks import Residual


class Net(nn.Module):
    """A convolution, a residual block and a classifier that uses one ReLU twice."""

    def __init__(self, channels=4, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.block = Residual(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError("three channels")
        x = self.relu(self.block(self.relu(self.stem(x))))
        return self.head(x.mean((2, 3)).view(x.size(0), -1))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        if x.sum() > 0:
            return self.layer(x)
        return x


def make(channels=4):
    return Net(channels)


def doubled():
    return Net().double()


def not_a_module():
    return 3


def broken():
    return nn.Linear("four", 2)
'''

BLOCKS = """
from torch import nn


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.norm(self.conv(x))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with net.py, which imports its neighbour blocks.py."""
    import torch

    torch.set_num_threads(1)
    (tmp_path / "net.py").write_text(ENTRY)
    (tmp_path / "blocks.py").write_text(BLOCKS)
    return tmp_path
