"""Small models compiled by real torch in this process, once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgec.backends.interface import Artifact, Runner
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.model.outputs import tensors_of
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import PassContext, PassRecord
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.target.spec import Device, Emit, Precision, QuantSpec, Target

SAMPLES = 16


class Vision(nn.Module):
    """Dense, depthwise and pointwise convolutions with BatchNorm, ReLU and ReLU6, then Linear and softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6())
        self.pointwise = nn.Sequential(nn.Conv2d(16, 24, 1), nn.BatchNorm2d(24), nn.ReLU6())
        self.head = nn.Linear(24, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.pointwise(self.depthwise(self.stem(image)))
        answer: torch.Tensor = self.head(x.mean((2, 3)))
        return answer


class Sequence(nn.Module):
    """An embedding of int64 ids, an LSTM, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.head = nn.Linear(24, 4)

    def forward(self, ids: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, _ = self.lstm(self.table(ids) * gain)
        return self.head(hidden[:, -1]), hidden


class Dense(nn.Module):
    """Wide layers, so that weights make up the file."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layers(x)
        return answer


class Signal(nn.Module):
    """One-dimensional convolutions, one of them pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv1d(4, 8, 1), nn.Conv1d(8, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.wide(torch.relu(self.narrow(x)))
        return found


class Attention(nn.Module):
    """Nothing that multiplies is a layer with weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ x.transpose(1, 2)).softmax(-1) @ x


class Upscale(nn.Module):
    """Transposed convolutions of a shape that torch's x86 kernels get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(16, 4, 2, stride=2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.up(self.down(x))
        return answer


class Encoder(nn.Module):
    """torch's own transformer, which stays one node of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.encode(x).mean(1))
        return answer


class Cross(nn.Module):
    """Attention that is not batch first, over keys and values of other sizes, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 4, kdim=8, vdim=12)
        self.keys = nn.Linear(16, 8)
        self.values = nn.Linear(16, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = x + self.attend(x, self.keys(x), self.values(x))[0]
        return x


class ReadWeights(nn.Module):
    """Attention whose weights are an output."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed, weights = self.attend(x, x, x)
        return self.head(mixed), weights


class Tangle(nn.Module):
    """Sums and products of tensors between convolutions, with ReLU, ReLU6 and max-pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 1)
        self.clamp = nn.ReLU6()
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16, 5)
        nn.init.uniform_(self.first.weight, -2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.clamp(self.first(image))
        y = self.relu(self.second(x) + x)
        y = self.clamp(self.third(self.pool(y * x)))
        y = self.relu(y + self.pool(x))
        answer: torch.Tensor = self.head(y.mean((2, 3)))
        return answer


class Clamps(nn.Module):
    """One ReLU6 called in several places, of which not all can be left to saturation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(3, 8, 1)
        self.third = nn.Conv2d(16, 8, 1)
        self.clamp = nn.ReLU6()
        self.pool = nn.AvgPool2d(2)
        for part in (self.first, self.second, self.third):
            nn.init.uniform_(part.weight, -4, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.clamp(torch.cat([self.clamp(self.first(image)), self.second(image)], 1))
        answer: torch.Tensor = self.clamp(self.pool(self.third(x)))
        return answer


MODELS: dict[str, type[nn.Module]] = {
    "vision": Vision,
    "sequence": Sequence,
    "dense": Dense,
    "attention": Attention,
    "upscale": Upscale,
    "encoder": Encoder,
    "tangle": Tangle,
    "cross": Cross,
    "read weights": ReadWeights,
    "clamps": Clamps,
    "signal": Signal,
}
DRAW: dict[str, Callable[[np.random.Generator], dict[str, Array]]] = {
    "cross": lambda random: {"x": random.standard_normal((5, 2, 16)).astype(np.float32)},
    "read weights": lambda random: {"x": random.standard_normal((1, 6, 16)).astype(np.float32)},
    "tangle": lambda random: {"image": random.standard_normal((1, 3, 12, 10)).astype(np.float32)},
    "clamps": lambda random: {"image": random.standard_normal((1, 3, 12, 10)).astype(np.float32)},
    "vision": lambda random: {"image": random.standard_normal((1, 3, 12, 10)).astype(np.float32)},
    "sequence": lambda random: {
        "ids": random.integers(0, 20, (1, 7)),
        "gain": random.uniform(0.5, 2, (1, 1, 1)).astype(np.float32),
    },
    "signal": lambda random: {"x": random.standard_normal((1, 4, 10)).astype(np.float32)},
    "dense": lambda random: {"x": random.standard_normal((1, 64)).astype(np.float32)},
    "encoder": lambda random: {"x": random.standard_normal((1, 6, 16)).astype(np.float32)},
    "upscale": lambda random: {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)},
    "attention": lambda random: {"x": random.standard_normal((1, 6, 8)).astype(np.float32)},
}


@dataclass(frozen=True)
class Compiled:
    """An artifact, how it came about, and the float model's answers."""

    artifact: Artifact
    file: Path
    records: tuple[PassRecord, ...]
    samples: tuple[dict[str, Array], ...]
    expected: tuple[dict[str, Array], ...]

    def runner(self) -> Runner:
        """The artifact in torch."""
        return get_backend(self.artifact.backend).runner(self.artifact, self.file, "torch", 1)

    def sqnr_db(self) -> float:
        """Of the worst output, over all samples."""
        runner = self.runner()
        given = [runner(sample) for sample in self.samples]
        found = []
        for name in self.expected[0]:
            exact = np.concatenate([answer[name].ravel() for answer in self.expected])
            error = exact - np.concatenate([answer[name].ravel() for answer in given])
            found.append(10 * np.log10(float((exact**2).sum()) / max(float((error**2).sum()), 1e-30)))
        return float(min(found))

    def quantized_weights(self) -> dict[int, torch.Tensor]:
        """Packed weights as the file holds them, by their number of values."""
        found = {}
        for node in torch.jit.load(str(self.file)).inlined_graph.nodes():  # type: ignore[no-untyped-call]
            if node.kind() == "prim::Constant" and "PackedParamsBase" in str(node.output().type()):
                weights = node.output().toIValue().unpack()[0]
                found[weights.numel()] = weights
        return found


def device(backend: str, *isa: str) -> Device:
    """A board of the backend's architecture."""
    facts = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")
    return Device(
        name="board",
        description="",
        arch="aarch64" if backend == "qnnpack" else "x86_64",
        triple="any",
        cpu="any",
        isa=frozenset(isa),
        cores=1,
        ram_mb=512,
        sources=dict.fromkeys(facts, "test"),
    )


def make_target(
    backend: str,
    precision: Precision = "int8",
    *,
    isa: tuple[str, ...] = (),
    engine: str | None = None,
    quantize: QuantSpec | None = None,
) -> Target:
    """A target with one TorchScript artifact."""
    emit = Emit(backend=backend, engine=engine)
    return Target(
        name="t", device=device(backend, *isa), precision=precision, emit=(emit,), quantize=quantize or QuantSpec()
    )


def float_model(name: str, module: nn.Module, sample: dict[str, Array], expected: dict[str, Array]) -> FloatModel:
    """A module as the loader would hand it over."""
    graph = fx.symbolic_trace(module)
    source = ModelSource(format="python", path="model.py", sha256="0" * 64)
    return FloatModel(name, source, specs(sample), specs(expected), graph=graph, module=module)


def specs(tensors: dict[str, Array]) -> tuple[TensorSpec, ...]:
    """Specs of the given arrays."""
    return tuple(TensorSpec(name=k, shape=v.shape, dtype=v.dtype.name) for k, v in tensors.items())  # type: ignore[arg-type]


def write_spool(samples: tuple[dict[str, Array], ...], folder: Path) -> Spool:
    """The samples as a calibration spool."""
    folder.mkdir(parents=True)
    for index, name in enumerate(samples[0]):
        np.save(folder / f"{index}.npy", np.stack([sample[name] for sample in samples]))
    info = SpoolInfo(
        inputs=specs(samples[0]), samples=len(samples), has_labels=False, content_digest="0" * 64, origin="test"
    )
    (folder / "spool.json").write_text(info.model_dump_json())
    return Spool(folder)


def make_model(name: str) -> tuple[FloatModel, tuple[dict[str, Array], ...], tuple[dict[str, Array], ...]]:
    """The model called `name` with seeded weights, its samples, and what it answers to each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = MODELS[name]()
        if name == "vision":  # BatchNorm that does something
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.running_mean.normal_()  # type: ignore[union-attr]
                    part.running_var.uniform_(0.3, 3)  # type: ignore[union-attr]
                    nn.init.uniform_(part.weight, 1, 6)
    module.eval()
    random = np.random.default_rng(0)
    samples = tuple(DRAW[name](random) for _ in range(SAMPLES))
    expected = []
    with torch.no_grad():
        for sample in samples:
            found = tensors_of(module(*map(torch.from_numpy, sample.values())))
            expected.append({f"output_{k}": tensor.numpy().copy() for k, tensor in enumerate(found)})
    return float_model(name, module, samples[0], expected[0]), samples, tuple(expected)


def compile_model(name: str, target: Target, folder: Path) -> Compiled:
    """Portable passes, the backend's own, and emission."""
    model, samples, expected = make_model(name)
    spool = write_spool(samples, folder / "spool")
    emit = target.emit[0]
    backend = get_backend(emit.backend)
    context = PassContext(target=target, work=folder, calibration=spool, emit=emit)
    model, _ = run_passes(portable_passes(), model, context, fingerprint=lambda item: str(id(item)))
    lowered, records = run_passes(
        backend.passes(target, emit, Recipe()), backend.lower(model, context), context, fingerprint=backend.fingerprint
    )
    artifact = backend.emit(lowered, context, folder / "out")
    return Compiled(artifact, folder / "out" / artifact.file, tuple(records), samples, expected)


Compile = Callable[[str, Target], Compiled]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile each (model, target) once."""

    @cache
    def get(name: str, target: str) -> Compiled:
        return compile_model(name, Target.model_validate_json(target), tmp_path_factory.mktemp(name))

    return lambda name, target: get(name, target.model_dump_json())  # a target holds a dict: it has no hash


@pytest.fixture(name="make_target")
def target_maker() -> Callable[..., Target]:
    """`make_target`."""
    return make_target


@pytest.fixture
def lowered() -> Callable[[str, Target], tuple[object, object]]:
    """A model as the target's backend lowers it, and the backend."""

    def lower(name: str, target: Target) -> tuple[object, object]:
        model, _, _ = make_model(name)
        backend = get_backend(target.emit[0].backend)
        return backend.lower(model, PassContext(target=target, work=Path(), emit=target.emit[0])), backend

    return lower


@dataclass(frozen=True)
class Ready:
    """A lowered float model with calibration samples."""

    lowered: Any
    spool: Spool
    samples: tuple[dict[str, Array], ...]
    expected: tuple[dict[str, Array], ...]

    def answers(self) -> Array:
        """The float model's first outputs, of all samples."""
        return np.concatenate([item["output_0"] for item in self.expected])


@pytest.fixture
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Target], Ready]:
    """A model after the portable passes, as the target's backend lowers it; a fresh copy each time."""

    def make(name: str, target: Target) -> Ready:
        model, samples, expected = make_model(name)
        spool = write_spool(samples, tmp_path_factory.mktemp(name) / "spool")
        context = PassContext(target=target, work=Path(), calibration=spool, emit=target.emit[0])
        model, _ = run_passes(portable_passes(), model, context, fingerprint=lambda item: str(id(item)))
        return Ready(get_backend(target.emit[0].backend).lower(model, context), spool, samples, expected)

    return make


@pytest.fixture(autouse=True)
def process_globals_are_left_alone() -> Iterator[None]:
    """Engine and thread count are as they were, after every test."""
    before = torch.backends.quantized.engine, torch.get_num_threads()
    yield
    assert (torch.backends.quantized.engine, torch.get_num_threads()) == before
