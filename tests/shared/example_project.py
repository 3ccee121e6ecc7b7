"""A project that the NumPy example backend builds in seconds, for the target `small`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NET = """
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
"""
PROJECT = """
[model]
path = "net.py:net"
inputs = [{name = "x", shape = [1, 6]}]
[calibration]
data = "calibration.npz"
[evaluation]
data = "evaluation.npz"
"""
TARGET = """
extends = "rpi4-int8"
[[emit]]
backend = "example"
"""


def write_example_project(root: Path) -> None:
    """Write the project: model, data, target and edgec.toml."""
    (root / "targets").mkdir(parents=True)
    (root / "net.py").write_text(NET)
    (root / "edgec.toml").write_text(PROJECT)
    (root / "targets" / "small.toml").write_text(TARGET)
    generator = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        np.savez(root / f"{name}.npz", x=generator.normal(size=(64, 1, 6)).astype(np.float32))
