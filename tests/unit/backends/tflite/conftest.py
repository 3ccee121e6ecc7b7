"""Small models compiled by the real toolchain, in its worker process, once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.backends.interface import Artifact, Layer, LayerFidelity
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.ladder.requests import (
    CompileAnswer,
    CompileRequest,
    CompilerOptions,
    FidelityAnswer,
    LayersAnswer,
    RecipeRequest,
)
from edgec.model import store
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import PassRecord
from edgec.quant.recipe import Recipe
from edgec.target.spec import Arch, Device, Emit, Precision, QuantSpec, Target
from edgec.workers import worker

SAMPLES = 12
_FACTS = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")


def _codes() -> Array:
    codes = np.random.default_rng(1).integers(-126, 127, (8, 3, 3, 3)).astype(np.float32)
    codes[:, 0, 0, 0] = 127  # the end of the grid is reached in each channel
    return codes


FIRST_CODES = _codes()
FIRST_SCALES = np.linspace(0.001, 0.004, 8, dtype=np.float32)


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


class Chain(nn.Module):
    """Plain layers, one after the other; the weights of `first` lie on the grid of 8-bit codes, as after QAT."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1)])
        self.head = nn.Linear(16, 5)
        with torch.no_grad():
            self.first.weight.copy_(torch.from_numpy(FIRST_CODES * FIRST_SCALES[:, None, None, None]))
            self.head.weight *= 0.3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.relu6(self.blocks[0](x) * 4)
        x = torch.relu(self.blocks[1](x))
        return self.head(x.mean((2, 3)))


class Corners(nn.Module):
    """What TensorFlow's quantizer and the kernels get wrong by themselves.

    Two directions of a recurrent layer, a clamp after a tanh, and an output that is always zero. Besides, a product
    of integers and a module that is called like one of TensorFlow's ops.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.mul = nn.GRU(8, 8, batch_first=True, bidirectional=True)
        self.dead = nn.Linear(16, 4)
        with torch.no_grad():
            self.dead.bias.fill_(-100.0)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both, _ = self.mul(self.table(ids))
        return torch.tanh(2 * both).clamp(-0.5, 0.5), torch.relu(self.dead(both))


class Masked(nn.Module):
    """Scores of some places are pushed below any float, as attention masks do."""

    def __init__(self, hidden: float = -3e38, product: bool = False) -> None:
        super().__init__()
        self.product = product
        self.inner = nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)
        self.register_buffer("mask", torch.tensor([0.0, hidden]).repeat(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.inner(x) * x if self.product else self.inner(x)
        return self.head((scores + self.mask).softmax(-1) * x)


class Sequence(nn.Module):
    """Recurrent layers of both directions, the last hidden state, a normalisation, and a GRU in between."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(6, 8, batch_first=True, bidirectional=True)
        self.gates = nn.GRU(16, 8, batch_first=True)
        self.last = nn.LSTM(8, 36, batch_first=True)
        self.out = nn.Linear(36, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.last(self.gates(self.both(x)[0])[0])
        return self.out(hidden[-1])


class Scalars(nn.Module):
    """An input and an output without a dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.last(torch.relu(self.first(x)) * gain)
        return scores, scores.sum()


class Mish(nn.Module):
    """An activation that takes a logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.out = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.mish(self.conv(x)).mean((2, 3)))


class Detector(nn.Module):
    """Boxes in pixels beside small probabilities, in one output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.conv(x))
        scores = torch.sigmoid(2 * self.scores(features) - 6)
        return torch.cat([100 * self.boxes(features), scores], 1).flatten(2)


class JoinedHeads(nn.Module):
    """Boxes of 0 to 12 and logits of -24 to 0, joined as they leave their layers: no scale suits both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)
        nn.init.constant_(self.boxes.bias, 6.0)
        nn.init.constant_(self.scores.bias, -9.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        joined = torch.cat([3 * self.boxes(x), 4 * self.scores(x)], 1).flatten(2)
        boxes, scores = joined.split([4, 3], 1)
        return torch.cat([boxes * 8, torch.sigmoid(scores / 4)], 1)


class Determinant(nn.Module):
    """An op that ONNX has and TFLite has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.det(x)


MODULES = {
    "attention": Attention,
    "chain": Chain,
    "corners": Corners,
    "detector": Detector,
    "joined heads": JoinedHeads,
    "determinant": Determinant,
    "masked": Masked,
    "mildly masked": lambda: Masked(-1e4),
    "masked product": lambda: Masked(-100.0, product=True),
    "mish": Mish,
    "scalars": Scalars,
    "sequence": Sequence,
    "vision": Vision,
}


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
        module = MODULES[name]().eval()
    random = np.random.default_rng(0)
    draw: dict[str, Callable[[], dict[str, Array]]] = {
        "vision": lambda: {
            "image": random.standard_normal((1, 3, 12, 10)).astype(np.float32),
            "token.ids": random.integers(0, 20, (1, 7)),
        },
        "attention": lambda: {"x": random.standard_normal((1, 6, 16)).astype(np.float32)},
        "determinant": lambda: {"x": random.standard_normal((1, 6, 6)).astype(np.float32)},
        "chain": lambda: {"x": random.standard_normal((1, 3, 8, 6)).astype(np.float32)},
        "scalars": lambda: {
            "x": random.standard_normal((1, 8)).astype(np.float32),
            "gain": np.asarray(random.uniform(0.5, 2), np.float32),
        },
        "detector": lambda: {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)},
        "joined heads": lambda: {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)},
        "mish": lambda: {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)},
        "sequence": lambda: {"x": random.standard_normal((1, 5, 6)).astype(np.float32)},
        "corners": lambda: {"ids": random.integers(0, 20, (1, 6))},
        "masked product": lambda: {"x": random.standard_normal((1, 16)).astype(np.float32)},
        "mildly masked": lambda: {"x": random.standard_normal((1, 16)).astype(np.float32)},
        "masked": lambda: {"x": random.standard_normal((1, 16)).astype(np.float32)},
    }
    named = {"vision": ("features", "logits"), "corners": ("out", "dead"), "scalars": ("out", "sum")}
    outputs = named.get(name, ("out",))
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


@dataclass(frozen=True)
class Compiled:
    """An artifact, its file and the records of the passes that made it."""

    artifact: Artifact
    file: Path
    passes: tuple[PassRecord, ...]


class Toolchain:
    """TensorFlow in one worker process for all tests, asked as the ladder does."""

    def __init__(self, process: worker.Worker, folder: Path) -> None:
        self._process, self._folder = process, folder
        self._current: tuple[str, Precision, str] | None = None
        self._artifacts = self._compilers = 0

    def compile(self, name: str, precision: Precision, recipe: Recipe | None = None, *, fresh: str = "") -> Compiled:
        """Make an artifact; with another value of `fresh` nothing is used again of what was made before."""
        out = self._folder / f"out{self._artifacts}"
        out.mkdir()
        self._artifacts += 1
        common = self._common(name, precision, recipe or Recipe(), fresh)
        answer = self._process.ask("compile", CompileRequest(**common, out=out), CompileAnswer).value
        return Compiled(answer.artifact, out / answer.artifact.file, answer.passes)

    def layers(self, name: str, precision: Precision = "int8") -> tuple[Layer, ...]:
        """`Backend.layers`."""
        request = RecipeRequest(**self._common(name, precision, Recipe(), ""))
        return self._process.ask("layers", request, LayersAnswer).value.layers

    def compare_layers(self, name: str, precision: Precision, recipe: Recipe) -> tuple[LayerFidelity, ...]:
        """`Backend.compare_layers`."""
        request = RecipeRequest(**self._common(name, precision, recipe, ""))
        return self._process.ask("compare_layers", request, FidelityAnswer).value.layers

    def _common(self, name: str, precision: Precision, recipe: Recipe, fresh: str) -> dict[str, Any]:
        """Fields of all requests; the process has a compiler for them afterwards."""
        folder = self._folder / f"{name}-{precision}{fresh}"
        if not folder.exists():
            case = make_case(name)
            store.save(case.model, folder / "model")
            write_spool(case, folder / "spool")
        if self._current != (name, precision, fresh):
            runtimes = ("ai-edge-litert",) if precision == "int4-weight-only" else None
            quantize = QuantSpec(block_size=16)
            self._process.create(
                "edgec.ladder.compiler:ArtifactCompiler",
                CompilerOptions(
                    target=make_target(precision, runtimes=runtimes, quantize=quantize),
                    emit=0,
                    calibration=folder / "spool",
                    work=self._folder / f"work{self._compilers}",
                    seed=0,
                    threads=1,
                ),
            )
            self._current = (name, precision, fresh)
            self._compilers += 1
        return {"model": folder / "model", "recipe": recipe, "precision": precision}


@pytest.fixture(scope="session")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolchain]:
    """The toolchain, loaded once a session."""
    folder = tmp_path_factory.mktemp("toolchain")
    with worker.Worker(log=folder / "log.txt", what="tflite") as process:
        yield Toolchain(process, folder)


@pytest.fixture(scope="session")
def compiled(toolchain: Toolchain) -> Callable[[str, Precision], Compiled]:
    """Compile each (model, precision) once, by the default recipe."""
    return cache(toolchain.compile)
