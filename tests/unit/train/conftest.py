"""Small nets that know handwritten digits, and their training as the ladder asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.dataset.spool import Spool
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.portable import portable_passes
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.train.requests import TrainRequest
from edgec.train.task import train_quantized

SHAPE = (1, 1, 8, 8)


class DigitsNet(nn.Module):
    """Everything that a small convolutional net has: BatchNorm, depthwise, ReLU6, a residual add, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6())
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.pool = nn.AvgPool2d(4)
        self.last = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.pointwise(self.depthwise(x)))
        return self.last(torch.flatten(self.pool(x), 1))


@dataclass
class Job:
    """One float model, its data, and how it is trained."""

    model: FloatModel
    folder: Path
    training: Spool
    evaluation: Spool
    calibration: Spool | None = None
    told: list[str] = field(default_factory=list)
    """What the last run told of its progress."""

    def request(self, out: str, grid: WeightGrid, activations: Any, spec: dict[str, Any], **more: Any) -> TrainRequest:
        """What the task gets."""
        return TrainRequest(
            model=self.folder / "model",
            grid=grid,
            activations=activations,
            spec=TrainSpec(data="train.npz", **spec),
            training=self.training.folder,
            calibration=self.calibration.folder if self.calibration else None,
            out=self.folder / out,
            checkpoints=self.folder / f"checkpoints-{out}",
            root=self.folder,
            seed=0,
            threads=1,
            **more,
        )

    def train(
        self,
        out: str = "out",
        grid: WeightGrid | None = None,
        activations: str = "int8",
        keep_zeros: bool = False,
        **spec: Any,
    ) -> tuple[FloatModel, dict[str, Any]]:
        """The trained model, and what the task returned."""
        self.told.clear()
        request = self.request(out, grid or WeightGrid(), activations, spec, keep_zeros=keep_zeros)
        answer = train_quantized(request, self.told.append)
        return store.load(self.folder / out), answer.plain()

    def right(self, graph: Any) -> float:
        """Share of the evaluation samples that `graph` gets right, in percent."""
        assert self.evaluation.labels is not None
        with torch.no_grad():
            found = [int(graph(torch.from_numpy(sample["x"])).argmax()) for sample in self.evaluation]
        return 100 * float(np.mean(np.array(found) == self.evaluation.labels))


def learn(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> nn.Module:
    """Train a float net, which is then worth quantizing."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(net(images[rows]), labels[rows]))
                optimizer.step()
    return net.eval()


@pytest.fixture(scope="session")
def digits_net(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    """A float net of about 97 %."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DigitsNet()
    return learn(net, digits[0][:1200], digits[1][:1200], 8)


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path, digits_model: Callable[..., FloatModel], digits_spool: Callable[..., Spool]) -> MakeJob:
    """A job on digits 0 to `samples` as training data, and 1200 to 1600 as evaluation data."""

    def make(module: nn.Module, samples: int = 320, labels: Any = "y", calibrated: bool = True) -> Job:
        calibration = digits_spool("calibration", 0, 64, "calibration", labels) if calibrated else None
        return Job(
            digits_model(module, portable_passes()),
            tmp_path,
            digits_spool("train", 0, samples, "training", labels),
            digits_spool("eval", 1200, 1600, "evaluation", labels),
            calibration,
        )

    return make
