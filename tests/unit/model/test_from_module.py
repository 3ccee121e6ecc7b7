"""Modules as users hand them over: any signature, any nesting of outputs, wrapped, lazy, hooked, half-broken."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.errors import EdgecError, InputSpecError, ModelError
from edgec.model.from_module import from_python
from edgec.model.load import load_model
from edgec.model.outputs import tensors_of
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.project.spec import InputSpec, ModelSpec

torch.set_num_threads(1)

SOURCE = ModelSource(format="python", path="net.py", sha256="0" * 64)


def _load(module: nn.Module, *names: str, shape: tuple[int, ...] = (1, 4)) -> FloatModel:
    specs = tuple(TensorSpec(name=name, shape=shape) for name in names)
    return from_python("net", SOURCE, module, specs, (), "net.py:Net")


class Base(nn.Module):
    """A linear layer; forward is a subclass's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)


class Defaults(Base):
    """Defaults of all kinds, positional and not, and branches on them."""

    def forward(
        self, x: Any, scale: float = 2.0, mask: Any = None, mode: str = "mean", dims: Any = (1,), *rest: Any,
        keep: bool = True, flip: bool = False, **more: Any,
    ) -> Any:  # fmt: skip
        x = self.layer(x) * scale
        if mask is not None:
            x = x * mask
        x = x.mean(dims, keepdim=keep) if mode == "mean" else x.sum(dims)
        return x.flip(1) if flip or rest or more else x


def _decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapped


class Decorated(Base):
    """A wrapped forward with a default."""

    @_decorator
    def forward(self, x: Any, return_features: bool = False) -> Any:
        return (self.layer(x), x) if return_features else self.layer(x)


class Variable(Base):
    """Inputs as a tuple of any length."""

    def forward(self, *inputs: Any) -> Any:
        return self.layer(inputs[0]) + inputs[1]


class ByName(Base):
    """An input that is passed by name only, another that is left at its default."""

    def forward(self, x: Any, extra: Any = None, *, gate: Any) -> Any:
        return self.layer(x) * gate


class Swapped(Base):
    """Replaces its own forward, as fused models do."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.fused

    def fused(self, x: Any) -> Any:
        return self.layer(x).relu()


class Hooked(Base):
    """Hooks before and after a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer.register_forward_hook(lambda module, given, found: found * 2)
        self.layer.register_forward_pre_hook(lambda module, given: (given[0] + 1,))

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class Swish(torch.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


class Custom(Base):
    """Calls a custom function."""

    def forward(self, x: Any) -> Any:
        return Swish.apply(self.layer(x))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Defaults(), ("x",)),
        (Decorated(), ("x",)),
        (Variable(), ("a", "b")),
        (ByName(), ("x", "gate")),
        (ByName(), ("gate", "x")),
        (Swapped(), ("x",)),
        (Hooked(), ("x",)),
        (Custom(), ("x",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else ",".join(value),
)
def test_signatures_and_calls(module: nn.Module, names: tuple[str, ...]) -> None:
    inputs = [torch.randn(1, 4) for _ in names]
    given = dict(zip(names, inputs, strict=True))
    wanted = module.eval()(**given) if isinstance(module, ByName) else module.eval()(*inputs)
    model = _load(module, *names)
    assert model.graph is not None, model.untraceable
    assert torch.allclose(model.graph(*inputs), wanted, atol=1e-6)
    pickle.dumps(model.graph)  # nothing of the test's own code is in it


@dataclass
class Result:
    """What a library's models return."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None
    hidden: tuple[torch.Tensor, ...] = ()
    classes: int = 3


class Pair(NamedTuple):
    """Names for a tuple."""

    score: torch.Tensor
    rest: dict[str, Any]


class Returns(Base):
    """Returns what it is told to."""

    def __init__(self, form: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Any) -> Any:
        return self.form(self.layer(x), x)


@pytest.mark.parametrize(
    ("form", "names", "notes"),
    [
        (lambda y, x: Result(y, hidden=(x, y)), ["logits", "hidden_0", "hidden_1"], ["classes = 3"]),
        (lambda y, x: Pair(y, {"deep": [y + 1, None]}), ["score", "rest_deep_0"], []),
        (lambda y, x: {"x": y, "flag": True}, ["x_out"], ['output "x" has the name of an input', "flag = True"]),
        (lambda y, x: (y, y.sum()), ["output_0", "output_1"], []),
    ],
)
def test_outputs_are_named_and_flat(form: Any, names: list[str], notes: list[str]) -> None:
    module, x = Returns(form).eval(), torch.randn(1, 4)
    wanted = tensors_of(module(x))
    model = _load(module, "x")
    assert [item.name for item in model.outputs] == names
    assert [text for text in notes if text not in "; ".join(model.notes)] == []
    assert model.graph is not None
    assert all(torch.equal(*pair) for pair in zip(tensors_of(model.graph(x)), wanted, strict=True))
    pickle.dumps(model.graph)


class Lazy(nn.Module):
    """Layers that take their shapes from the first input, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
        self.unused = nn.LazyLinear(3)

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def test_lazy_layers_take_their_shapes_from_the_stated_input() -> None:
    one, two = _load(Lazy(), "x"), _load(Lazy(), "x")
    assert "lazy layers took their shapes" in one.notes[0]
    assert "left out: unused" in one.notes[1]
    assert one.graph is not None
    assert two.graph is not None
    x = torch.randn(1, 4)
    assert torch.equal(one.graph(x), two.graph(x))  # their random weights are those of a fixed seed


def test_parametrizations_become_plain_weights() -> None:
    module = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.utils.weight_norm(nn.Linear(4, 4)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        nn.utils.spectral_norm(nn.Linear(4, 4)),
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
        nn.utils.prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
    ).eval()
    x = torch.randn(1, 4)
    wanted = module(x)
    model = _load(module, "x")
    assert "0.weight (WeightNorm), 1.weight (WeightNorm)" in model.notes[0]
    assert model.graph is not None
    assert torch.allclose(model.graph(x), wanted, atol=1e-6)
    assert {type(part) for part in model.graph.children()} == {nn.Linear}
    pickle.dumps(model.graph)


ENTRIES = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, fail=""):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.cached = self.layer.weight * 2
        self.fail = fail

    def forward(self, x):
        if self.fail == "key":
            return {}["gone"]
        if self.fail == "exit":
            raise SystemExit(3)
        if self.fail == "second" and float(x[0, 0]) > 0.2:
            raise RuntimeError("too large")
        return fused(self.layer(x) + self.cached[0])

@torch.compile
def squared(x):
    return x * x

@torch.jit.script
def fused(x):
    return F.gelu(x) * 2

class Compiled(Net):
    def forward(self, x):
        return squared(super().forward(x))

def compiled():
    return torch.compile(Compiled())

def scripted():
    return torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

def parallel():
    return nn.DataParallel(Net())

class Broken(Net):
    def eval(self):
        raise LookupError("no such mode")
"""
INPUT = (InputSpec(name="x", shape=(1, 4)),)


@pytest.mark.parametrize("entry", ["Net", "compiled", "scripted", "parallel"])
def test_compiled_and_wrapped_entries_are_plain_models(entry: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(ENTRIES)
    model = load_model(ModelSpec(path=f"net.py:{entry}", inputs=INPUT), tmp_path)
    assert model.graph is not None, model.untraceable
    assert torch.compile.__module__ == "torch"


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (ModelSpec(path="net.py:Net", arguments={"fail": "key"}, inputs=INPUT), InputSpecError, 'return {}["gone"]'),
        (ModelSpec(path="net.py:Net", arguments={"fail": "exit"}, inputs=INPUT), InputSpecError, "SystemExit(3)"),
        (ModelSpec(path="net.py:Net", arguments={"fail": "second"}, inputs=INPUT), InputSpecError, "too large"),
        (ModelSpec(path="net.py:Broken", inputs=INPUT), ModelError, "no such mode"),
    ],
)
def test_what_the_users_code_raises_is_told_with_its_line(
    spec: ModelSpec, error: type[EdgecError], text: str, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(ENTRIES)
    with pytest.raises(error) as caught:
        load_model(spec, tmp_path)
    assert text in str(caught.value)
    assert "net.py" in str(caught.value)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (lambda y, x: y.half(), "float16"),
        (lambda y, x: torch.fft.fft(y), "complex64"),
        (lambda y, x: iter([y]), "list_iterator"),
        (lambda y, x: 3, "no tensor"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(form: Any, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        _load(Returns(form), "x")


class Branching(Base):
    """Goes another way for other data."""

    def forward(self, x: Any) -> Any:
        return self.layer(x) if x.sum() > 0 else functional.relu(x)


def test_a_branch_on_data_gets_no_graph_by_onnx_either() -> None:
    model = _load(Branching(), "x")
    assert model.graph is None
    assert "symbolically traced variables" in model.untraceable
