"""The search for layers that must stay in float: by halves, as the ladder does it, against one layer at a time.

    python -m benchmarks.float_layers            # the ladder's test nets that need it, and a net of 100 layers
    python -m benchmarks.float_layers --net deep

It needs the `dev` extra. Both searches have the same gate (SQNR of the output) and ONNX Runtime. By halves: trials,
layers in float and SQNR of the rung `mixed-precision`. One by one: `edgec analyze` quantizes each layer alone, and
layers go to float in that order, one more at a time, until the gate is met.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgec
from edgec.analyze.analyze import analyze_target
from edgec.project.load import load_project

NETS = {"convolved": 35.0, "deep": 28.0}
"""Entry -> gate in dB."""
BLOCKS, OUTLIERS = 50, (7, 23, 41)
LAST_OF_TRIALS = re.compile(r"float layers: (\d+) of at most (\d+)")
SHAPE = [1, 3, 8, 8]


class Deep(nn.Module):
    """100 convolutions in residual blocks; in three of them one channel is 60 times as large as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(3, 6, 1) for _ in range(BLOCKS))
        self.second = nn.ModuleList(nn.Conv2d(6, 3, 1) for _ in range(BLOCKS))
        with torch.no_grad():
            for block in OUTLIERS:
                self.first[block].weight[0] *= 60
                self.second[block].weight[:, 0] /= 60

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for first, second in zip(self.first, self.second, strict=True):
            x = x + 0.3 * second(nn.functional.silu(first(x)))
        return x


def deep() -> nn.Module:
    """The net with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Deep().eval()


@dataclass(frozen=True)
class Found:
    """What a search ended with."""

    trials: int
    layers: int
    sqnr_db: float
    seconds: float


def lay(folder: Path, net: str) -> None:
    """Write a project for one net, with noise as its data."""
    source = Path(__file__) if net == "deep" else Path(__file__).parents[1] / "tests" / "e2e" / "ladder_nets.py"
    shutil.copy(source, folder / "nets.py")
    (folder / "targets").mkdir(parents=True)
    target(folder, "host", ())
    rng = np.random.default_rng(0)
    for name, count in (("calibration", 64), ("evaluation", 128)):
        np.savez(folder / f"{name}.npz", x=rng.normal(size=(count, *SHAPE[1:])).astype(np.float32))
    data = "".join(f'[{name}]\ndata = "{name}.npz"\n' for name in ("calibration", "evaluation"))
    inputs = f'[[model.inputs]]\nname = "x"\nshape = {SHAPE}\n'
    (folder / "edgec.toml").write_text(f'[model]\npath = "nets.py:{net}"\n{inputs}{data}metric = "sqnr"\n')


def target(folder: Path, name: str, float_layers: tuple[str, ...]) -> None:
    """Write a target of ONNX Runtime, with layers pinned to float."""
    pinned = "".join(f'"{layer}", ' for layer in float_layers)
    text = f'extends = "x86-64-int8"\n[[emit]]\nbackend = "onnxruntime"\n[quantize]\nfloat_layers = [{pinned}]\n'
    (folder / "targets" / f"{name}.toml").write_text(text)


def by_halves(folder: Path, gate: float) -> Found:
    """The rung `mixed-precision` of a build, whose project states the gate."""
    steps: list[str] = []
    began = time.monotonic()
    bundle = edgec.build(
        target="host",
        project=folder,
        settings={"build.recipe": "mixed-precision", "gates.min_sqnr_db": gate},
        progress=steps.append,
    )
    trials = [int(found[1]) for step in steps if (found := LAST_OF_TRIALS.search(step))]
    (artifact,) = bundle.manifest.artifacts
    sqnr = bundle.measurements[0].sqnr_db() or 0.0
    return Found(max(trials), len(artifact.recipe.float_layers), sqnr, time.monotonic() - began)


def one_by_one(folder: Path, gate: float) -> Found:
    """Layers in the order of what each loses alone, one more at a time."""
    began = time.monotonic()
    analysis = analyze_target("host", load_project(folder), folder, samples=16).analysis
    (artifact,) = analysis.artifacts
    worst = sorted(artifact.layers, key=lambda item: item.only.sqnr_db or 0.0)
    for count in range(1, len(worst) // 2 + 1):
        target(folder, "pinned", tuple(item.layer for item in worst[:count]))
        settings = {"build.recipe": "min-max", "build.effort": "fast", "gates.min_sqnr_db": -100.0}
        sqnr = edgec.build(target="pinned", project=folder, settings=settings).measurements[0].sqnr_db() or 0.0
        if sqnr >= gate:
            return Found(len(worst) + count, count, sqnr, time.monotonic() - began)
    sys.exit("one by one: half of the layers are not enough")


def main() -> None:
    """Both searches over the nets, as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append", help="default: all")
    chosen = parser.parse_args().net or list(NETS)
    print(f"{'net':<12}{'search':<14}{'trials':>7}{'in float':>9}{'SQNR dB':>9}{'seconds':>9}")
    for net in chosen:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            lay(folder, net)
            for name, search in (("by halves", by_halves), ("one by one", one_by_one)):
                found = search(folder, NETS[net])
                row = f"{net:<12}{name:<14}{found.trials:>7}{found.layers:>9}{found.sqnr_db:>9.1f}{found.seconds:>9.0f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
