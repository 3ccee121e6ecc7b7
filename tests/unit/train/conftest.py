"""Small nets that know handwritten digits, and their training as the ladder asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.model import store
from edgec.model.outputs import flatten_outputs
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.trace import trace
from edgec.passes.contract import PassContext
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes
from edgec.project.spec import DataSpec, Preprocess, TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.target.load import load_target
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

    def payload(self, out: str, grid: WeightGrid, activations: str, spec: dict[str, Any]) -> dict[str, Any]:
        """What the task gets."""
        return {
            "model": str(self.folder / "model"),
            "grid": grid.model_dump_json(),
            "activations": activations,
            "spec": TrainSpec(data="train.npz", **spec).model_dump_json(),
            "training": str(self.training.folder),
            "calibration": str(self.calibration.folder) if self.calibration else None,
            "out": str(self.folder / out),
            "checkpoints": str(self.folder / f"checkpoints-{out}"),
            "root": str(self.folder),
            "seed": 0,
            "threads": 1,
        }

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
        payload = self.payload(out, grid or WeightGrid(), activations, spec) | {"keep_zeros": keep_zeros}
        answer = train_quantized(payload, self.told.append)
        return store.load(self.folder / out), answer

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
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """All images in 0 to 1, and their labels."""
    data = load_digits()
    return torch.from_numpy((data.images / 16).astype(np.float32)[:, None]), torch.from_numpy(data.target)


@pytest.fixture(scope="session")
def digits_net(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    """A float net of about 97 %."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DigitsNet()
    return learn(net, digits[0][:1200], digits[1][:1200], 8)


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path, digits: tuple[torch.Tensor, torch.Tensor]) -> MakeJob:
    """A job on digits 0 to `samples` as training data, and 1200 to 1600 as evaluation data."""

    def make(module: nn.Module, samples: int = 320, labels: Any = "y", calibrated: bool = True) -> Job:
        inputs = (TensorSpec(name="x", shape=SHAPE),)
        sample = sample_tensors(inputs, seed=0)
        with torch.no_grad():
            result = module.eval()(*sample)
        traced = trace(module, sample, sample_tensors(inputs, seed=1))
        model = FloatModel(
            name="net",
            source=ModelSource(format="python", path="net.py", sha256="0" * 64, entry="make"),
            inputs=inputs,
            outputs=tuple(TensorSpec(name=name, shape=tuple(item.shape)) for name, item in flatten_outputs(result)),
            graph=traced.graph,
            untraceable=traced.untraceable,
            module=traced.graph or module,
        )
        target = load_target("x86-64-vnni-int8", tmp_path).target
        context = PassContext(target, tmp_path)
        model, _ = run_passes(portable_passes(), model, context, store.fingerprint)
        store.save(model, tmp_path / "model")

        def spool(name: str, begin: int, end: int, what: Any) -> Spool:
            arrays = {"x": digits[0][begin:end, None].numpy()}
            if labels == "y":
                arrays["y"] = digits[1][begin:end].numpy()
            elif labels is not None:
                arrays["y"] = labels(digits[0][begin:end]).numpy()
            np.savez(tmp_path / f"{name}.npz", **arrays)
            spec = DataSpec(data=f"{name}.npz")
            return write_spool(spec, Preprocess(), inputs, tmp_path / name, tmp_path, samples=None, seed=0, what=what)

        calibration = spool("calibration", 0, 64, "calibration") if calibrated else None
        return Job(
            model,
            tmp_path,
            spool("train", 0, samples, "training"),
            spool("eval", 1200, 1600, "evaluation"),
            calibration,
        )

    return make
