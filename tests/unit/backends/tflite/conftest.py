"""Small models compiled by the real toolchain, in its worker process, once a session."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgec import worker
from edgec.backend.protocol import Artifact
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.model import store
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.target.spec import Arch, Device, Emit, Precision, QuantSpec, Target

SAMPLES = 12
_FACTS = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")


class Vision(nn.Module):
    """Image (rank 4, no two axes equal) and int64 ids in; a feature map and logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.table = nn.Embedding(20, 8)
        self.head = nn.Linear(24, 64)
        self.out = nn.Linear(64, 5)

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = nn.functional.relu6(self.depthwise(torch.relu(self.stem(image))))
        joined = torch.cat([features.mean((2, 3)), self.table(ids).mean(1)], 1)
        return features, self.out(torch.relu(self.head(joined)))


class Attention(nn.Module):
    """One head-split self-attention with GELU and LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.project(x).reshape(1, 6, 2, 8).transpose(1, 2)
        weights = (q @ q.transpose(-1, -2) / 8**0.5).softmax(-1)
        mixed = (weights @ q).transpose(1, 2).reshape(1, 6, 16)
        return self.out(nn.functional.gelu(self.norm(mixed + x)))


class Determinant(nn.Module):
    """An op that ONNX has and TFLite has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.det(x)


@dataclass(frozen=True)
class Case:
    """A float model, its samples, and what it answers to each."""

    model: FloatModel
    samples: tuple[dict[str, Array], ...]
    expected: tuple[dict[str, Array], ...]


@cache
def make_case(name: str) -> Case:
    """The model called `name` with seeded weights and samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = {"vision": Vision, "attention": Attention, "determinant": Determinant}[name]().eval()
    random = np.random.default_rng(0)
    draw: dict[str, Callable[[], dict[str, Array]]] = {
        "vision": lambda: {
            "image": random.standard_normal((1, 3, 12, 10)).astype(np.float32),
            "token.ids": random.integers(0, 20, (1, 7)),
        },
        "attention": lambda: {"x": random.standard_normal((1, 6, 16)).astype(np.float32)},
        "determinant": lambda: {"x": random.standard_normal((1, 3, 3)).astype(np.float32)},
    }
    outputs = {"vision": ("features", "logits"), "attention": ("out",), "determinant": ("out",)}[name]
    samples = tuple(draw[name]() for _ in range(SAMPLES))
    expected = []
    with torch.no_grad():
        for sample in samples:
            answer = module(*map(torch.from_numpy, sample.values()))
            listed = [answer] if isinstance(answer, torch.Tensor) else answer
            expected.append({key: value.numpy() for key, value in zip(outputs, listed, strict=True)})
    model = FloatModel(
        name=name,
        source=ModelSource(format="python", path="model.py", sha256="0" * 64),
        inputs=specs(samples[0]),
        outputs=specs(expected[0]),
        untraceable="handed over as ONNX",
        module=module,
    )
    return Case(model, samples, tuple(expected))


def specs(tensors: dict[str, Array]) -> tuple[TensorSpec, ...]:
    """Specs of the given arrays."""
    return tuple(TensorSpec(name=k, shape=v.shape, dtype=v.dtype.name) for k, v in tensors.items())  # type: ignore[arg-type]


def make_target(
    precision: Precision = "int8",
    *,
    arch: Arch = "x86_64",
    runtimes: tuple[str, ...] | None = None,
    engine: str | None = None,
    quantize: QuantSpec | None = None,
) -> Target:
    """A target with one TFLite artifact."""
    device = Device(
        name="board",
        description="",
        arch=arch,
        triple="any",
        cpu="any",
        isa=frozenset(),
        cores=1,
        ram_mb=512,
        sources=dict.fromkeys(_FACTS, "test"),
    )
    emit = Emit(backend="tflite", runtimes=runtimes, engine=engine)
    return Target(name="t", device=device, precision=precision, emit=(emit,), quantize=quantize or QuantSpec())


def write_spool(case: Case, folder: Path) -> Spool:
    """The case's samples as a calibration spool."""
    folder.mkdir(parents=True)
    for index, spec in enumerate(case.model.inputs):
        np.save(folder / f"{index}.npy", np.stack([sample[spec.name] for sample in case.samples]))
    info = SpoolInfo(
        inputs=case.model.inputs, samples=len(case.samples), has_labels=False, content_digest="0" * 64, origin="test"
    )
    (folder / "spool.json").write_text(info.model_dump_json())
    return Spool(folder)


def compile_case(name: str, precision: Precision, folder: Path) -> tuple[Artifact, Path, worker.WorkerResult]:
    """Compile in a worker process, as the build does."""
    case = make_case(name)
    store.save(case.model, folder / "model")
    spool = write_spool(case, folder / "spool")
    (folder / "out").mkdir()
    (folder / "work").mkdir()
    payload = {
        "model": str(folder / "model"),
        "target": make_target(precision).model_dump_json(),
        "emit": 0,
        "calibration": str(spool.folder),
        "work": str(folder / "work"),
        "out": str(folder / "out"),
        "seed": 0,
        "threads": 1,
    }
    task = "edgec.backend.compile:compile_artifact"
    result = worker.call(task, payload, log=folder / "log.txt", what=f"tflite: {name}")
    artifact = Artifact.model_validate_json(json.dumps(result.value["artifact"]))
    return artifact, folder / "out" / artifact.file, result


Compiled = tuple[Artifact, Path, worker.WorkerResult]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Precision], Compiled]:
    """Compile each (model, precision) once."""

    @cache
    def get(name: str, precision: Precision) -> Compiled:
        return compile_case(name, precision, tmp_path_factory.mktemp(f"{name}-{precision}"))

    return get
