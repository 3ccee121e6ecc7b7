"""Small nets of many families, each with the layers whose channels are the same ones and can be removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from edgec.dataset.spool import Spool
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.model.trace import trace
from edgec.passes.portable import before_pruning
from edgec.project.spec import TrainSpec
from edgec.prune.requests import PruneRequest
from edgec.prune.task import prune_model
from edgec.target.spec import PruneSpec

Same = tuple[tuple[str, ...], ...]
"""Groups of layers (with their norms) that share their output channels."""


def _norm(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    """A convolution (``0``) with BatchNorm (``1``), the map as large as before."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Plain(nn.Module):
    """Convolutions, a flattened map and two linear layers."""

    same: Same = (("a.0", "a.1"), ("b.0", "b.1"), ("c",))
    shape = (1, 1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = _norm(1, 16), _norm(16, 32)
        self.c, self.d = nn.Linear(32 * 16, 48), nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(torch.relu(self.b(torch.relu(self.a(x)))), 2)
        return self.d(torch.relu(self.c(torch.flatten(x, 1))))


class Residual(nn.Module):
    """Two blocks on one stream."""

    same: Same = (("stem.0", "stem.1", "b.0", "b.1", "d.0", "d.1"), ("a.0", "a.1"), ("c.0", "c.1"))
    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = _norm(3, 16), _norm(16, 32), _norm(32, 16)
        self.c, self.d, self.head = _norm(16, 32), _norm(32, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.b(torch.relu(self.a(x))))
        x = torch.relu(x + self.d(torch.relu(self.c(x))))
        return self.head(x.mean((2, 3)))


class Depthwise(nn.Module):
    """Inverted residuals with ReLU6."""

    same: Same = (
        ("stem.0", "stem.1", "first.0", "first.1"),
        ("project.0", "project.1", "back.0", "back.1"),
        ("expand.0", "expand.1", "second.0", "second.1"),
    )
    shape = (1, 3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.project = _norm(3, 32), _norm(32, 32, groups=32), _norm(32, 16, 1)
        self.expand, self.second, self.back = _norm(16, 96, 1), _norm(96, 96, groups=96, stride=1), _norm(96, 16, 1)
        self.act, self.head = nn.ReLU6(), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(self.act(self.first(self.act(self.stem(x)))))
        x = x + self.back(self.act(self.second(self.act(self.expand(x)))))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Concat(nn.Module):
    """Dense and inception-like: a stream that grows, and branches of several widths."""

    same: Same = (("a.0", "a.1"), ("b.0", "b.1"), ("c.0", "c.1"), ("left",), ("right",))
    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = _norm(3, 16), _norm(16, 16), _norm(32, 24)
        self.left, self.right, self.head = nn.Conv2d(56, 16, 1), nn.Conv2d(56, 32, 3, padding=1), nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.a(x))
        both = torch.cat([first, torch.relu(self.b(first))], 1)
        three = torch.cat([both, torch.relu(self.c(both))], 1)
        return self.head(torch.cat([torch.relu(self.left(three)), torch.relu(self.right(three))], 1).mean((2, 3)))


class Grouped(nn.Module):
    """ResNeXt-like: four groups between 1x1 convolutions."""

    same: Same = (("a.0", "a.1"), ("b.0", "b.1"), ("c.0", "c.1"))
    shape = (1, 3, 8, 8)
    ways = 4

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = _norm(3, 32, 1), _norm(32, 64, groups=4), _norm(64, 16, 1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))
        return self.head(x.mean((2, 3)))


class SqueezeExcite(nn.Module):
    """Channels scaled by what a small net makes of their means."""

    same: Same = (("a.0", "a.1", "grow"), ("shrink",), ("b.0", "b.1"))
    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = _norm(3, 32), _norm(32, 16), nn.Linear(16, 5)
        self.shrink, self.grow = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.a(x))
        scale = torch.sigmoid(self.grow(torch.relu(self.shrink(x.mean((2, 3), keepdim=True)))))
        return self.head(functional.hardswish(self.b(x * scale)).mean((2, 3)))


class Audio(nn.Module):
    """One-dimensional convolutions."""

    same: Same = (("a", "an"), ("b", "bn"))
    shape = (1, 1, 200)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Conv1d(1, 16, 9, stride=4), nn.BatchNorm1d(16)
        self.b, self.bn, self.head = nn.Conv1d(16, 32, 5), nn.BatchNorm1d(32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.b(torch.relu(self.an(self.a(x))))))
        return self.head(x.amax(-1))


class Mlp(nn.Module):
    """A transformer's linear blocks: LayerNorm and a residual stream."""

    same: Same = (("up",), ("up2",))
    shape = (1, 6, 32)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.norm2, self.head = (
            nn.Linear(32, 32),
            nn.LayerNorm(32),
            nn.LayerNorm(32),
            nn.Linear(32, 5),
        )
        self.up, self.down, self.up2, self.down2 = (
            nn.Linear(32, 64),
            nn.Linear(64, 32),
            nn.Linear(32, 64),
            nn.Linear(64, 32),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        x = x + self.down(functional.gelu(self.up(self.norm(x))))
        x = x + self.down2(functional.gelu(self.up2(self.norm2(x))))
        return self.head(x.mean(1))


class Shared(nn.Module):
    """A convolution that is called twice."""

    same: Same = (("last",),)
    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.last, self.head = nn.Conv2d(16, 32, 3), nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.twice(torch.relu(self.twice(torch.relu(self.stem(x))))))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM between linear layers."""

    same: Same = (("middle",),)
    shape = (1, 7, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Linear(12, 16), nn.LSTM(16, 24, batch_first=True)
        self.middle, self.head = nn.Linear(24, 32), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.lstm(self.embed(x))
        return self.head(torch.relu(self.middle(x[:, -1])))


class Detector(nn.Module):
    """Boxes and scores from two maps of a backbone."""

    same: Same = (("stem.0", "stem.1"), ("deep.0", "deep.1"), ("neck",))
    shape = (1, 3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = _norm(3, 16, stride=2), _norm(16, 32, stride=2)
        self.neck, self.boxes, self.scores = nn.Conv2d(48, 32, 1), nn.Conv2d(32, 4, 1), nn.Conv2d(32, 3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.stem(x))
        deep = functional.interpolate(torch.relu(self.deep(x)), scale_factor=2.0)
        x = torch.relu(self.neck(torch.cat([x, deep], 1)))
        return self.boxes(x).flatten(2), self.scores(x).flatten(2).sigmoid()


class Transposed(nn.Module):
    """A decoder with transposed convolutions."""

    same: Same = (("a.0", "a.1"), ("up", "norm"), ("up2",))
    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.norm = _norm(3, 16, stride=2), nn.ConvTranspose2d(16, 32, 2, stride=2), nn.BatchNorm2d(32)
        self.up2, self.head = nn.ConvTranspose2d(32, 16, 3), nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.up2(torch.relu(self.norm(self.up(torch.relu(self.a(x))))))))


class Gated(nn.Module):
    """A gate of two halves: channels go in pairs. And a GroupNorm: they go in fours."""

    same: Same = ()
    shape = (1, 3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm = nn.Conv2d(3, 64, 3), nn.GroupNorm(4, 32)
        self.last, self.head = nn.Conv2d(32, 32, 1), nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.both(x).chunk(2, 1)
        return self.head(self.norm(self.last(left * torch.sigmoid(right))).mean((2, 3)))


NETS: dict[str, type[nn.Module]] = {
    net.__name__: net
    for net in (
        *(Plain, Residual, Depthwise, Concat, Grouped, SqueezeExcite, Audio),
        *(Mlp, Shared, Recurrent, Detector, Transposed, Gated),
    )
}


Traced = tuple[fx.GraphModule, tuple[torch.Tensor, ...]]


def traced(net: nn.Module, *shapes: tuple[int, ...]) -> Traced:
    """The graph of a net with lively BatchNorm, and one sample."""
    source = torch.Generator().manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean = torch.randn(part.num_features, generator=source) * 0.3
            part.running_var = torch.rand(part.num_features, generator=source) + 0.5
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=source)
            nn.init.normal_(part.bias, generator=source)
    example = tuple(torch.randn(shape, generator=source) for shape in shapes)
    done = trace(net.eval(), example)
    assert done.graph is not None, done.untraceable
    return done.graph, example


@pytest.fixture
def make() -> Callable[..., Traced]:
    """`traced`, for a net or the name of one of `NETS`; the same weights each time."""
    torch.set_num_threads(1)

    def by_name(net: str | Callable[[], nn.Module], *shapes: tuple[int, ...]) -> Traced:
        torch.manual_seed(0)
        built = NETS[net]() if isinstance(net, str) else net()
        return traced(built, *(shapes or (built.shape,)))

    return by_name


@pytest.fixture
def same() -> Callable[[str], Same]:
    """Of one of `NETS`: layers that share their channels."""
    return lambda name: NETS[name].same


class Digits(nn.Module):
    """Logits of 8x8 digits: BatchNorm, a residual add, dropout that inference does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = _norm(1, 16), _norm(16, 16)
        self.hidden, self.last = nn.Linear(16 * 16, 32), nn.Linear(32, 10)
        self.relu, self.pool, self.drop = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(x + self.block(x))
        return self.last(self.drop(self.relu(self.hidden(torch.flatten(self.pool(x), 1)))))


@dataclass
class PruneJob:
    """One float model, its data, and how it is pruned."""

    model: FloatModel
    folder: Path
    training: Spool
    evaluation: Spool
    told: list[str] = field(default_factory=list)
    """What the last run told of its progress."""

    def request(self, out: str, trained: bool, train: Mapping[str, Any], spec: Mapping[str, Any]) -> PruneRequest:
        """What the task gets."""
        return PruneRequest(
            model=self.folder / "model",
            spec=PruneSpec(**{"round_to": 4, **spec}),
            train=TrainSpec(data="train.npz", **train) if trained else None,
            training=self.training.folder if trained else None,
            out=self.folder / out,
            checkpoints=self.folder / f"checkpoints-{out}",
            root=self.folder,
            seed=0,
            threads=1,
        )

    def prune(
        self, out: str = "out", *, trained: bool = True, train: Mapping[str, Any] | None = None, **spec: Any
    ) -> tuple[FloatModel, dict[str, Any]]:
        """The pruned model, and what the task returned."""
        self.told.clear()
        answer = prune_model(self.request(out, trained, train or {}, spec), self.told.append)
        return store.load(self.folder / out), answer.plain()

    def right(self, graph: Any) -> float:
        """Share of the evaluation samples that `graph` gets right, in percent."""
        assert self.evaluation.labels is not None
        with torch.no_grad():
            found = [int(graph(torch.from_numpy(sample["x"])).argmax()) for sample in self.evaluation]
        return 100 * float(np.mean(np.array(found) == self.evaluation.labels))


@pytest.fixture(scope="session")
def digits_net(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    """A float net of about 97 %."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Digits()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(6):
            for rows in torch.randperm(1200).split(64):
                optimizer.zero_grad()
                loss = functional.cross_entropy(net(digits[0][rows]), digits[1][rows])
                torch.autograd.backward(loss)
                optimizer.step()
    return net.eval()


@pytest.fixture
def make_job(
    tmp_path: Path, digits_model: Callable[..., FloatModel], digits_spool: Callable[..., Spool]
) -> Callable[..., PruneJob]:
    """A job on digits 0 to `samples` as training data, and 1200 to 1600 as evaluation data."""

    def job(module: nn.Module, samples: int = 512, labels: Any = "y") -> PruneJob:
        training = digits_spool("train", 0, samples, "training", labels)
        evaluation = digits_spool("eval", 1200, 1600, "evaluation", labels)
        return PruneJob(digits_model(module, before_pruning()), tmp_path, training, evaluation)

    return job
