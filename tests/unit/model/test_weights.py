"""Weights as people save them: what fits is found and said, what does not is refused with the names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.errors import ModelError
from edgec.model.weights import load_weights

torch.set_num_threads(1)


class Net(nn.Module):
    """Two layers with a BatchNorm between them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).relu())  # type: ignore[no-any-return]


def trained() -> Net:
    torch.manual_seed(1)
    return Net().eval()


State = dict[str, torch.Tensor]


def _under(prefix: str, state: State) -> State:
    return {prefix + name: item for name, item in state.items()}


SAVED: dict[str, tuple[Callable[[State], Any], str]] = {
    "plain": (lambda state: state, ""),
    "compiled": (lambda state: _under("_orig_mod.", state), "_orig_mod."),
    "data parallel": (lambda state: _under("module._orig_mod.", state), 'prefix "module._orig_mod."'),
    "compiled part": (
        lambda state: {name.replace("body.", "body._orig_mod."): item for name, item in state.items()},
        '"_orig_mod." taken off',
    ),
    "lightning": (
        lambda state: {"epoch": 1, "state_dict": {**_under("model.", state), "loss.weight": torch.ones(2)}},
        "1 tensors without this prefix are not used: loss.weight",
    ),
    "inner model": (lambda state: {"net": {"model": _under("encoder.", state)}}, 'key "net.model"'),
    "average only": (lambda state: {"ema_state_dict": state, "args": argparse.Namespace(lr=1)}, "ema_state_dict"),
    "with average": (
        lambda state: {"model": state, "ema": {name: item * 2 for name, item in state.items()}},
        '"ema" of w.pt fits too, and is not used',
    ),
    "numpy number": (lambda state: {"model_state": state, "best": np.float64(0.9)}, "model_state"),
    "half": (lambda state: {name: item.half() for name, item in state.items()}, "float16"),
    "no counter": (
        lambda state: {name: item for name, item in state.items() if "num_batches" not in name},
        "w.pt lacks 1 num_batches_tracked",
    ),
    "averaged model": (lambda state: {"n_averaged": torch.tensor(3), **_under("module.", state)}, "n_averaged"),
}


@pytest.mark.parametrize("kind", SAVED)
def test_found_and_said(kind: str, tmp_path: Path) -> None:
    saved, told = SAVED[kind]
    wanted = trained()
    torch.save(saved(dict(wanted.state_dict())), tmp_path / "w.pt")
    torch.manual_seed(2)
    module = Net().eval()
    notes = load_weights(module, tmp_path / "w.pt", "net.py:Net")
    assert told in "; ".join(notes)
    assert bool(notes) == (kind != "plain")
    x = torch.randn(3, 4)
    assert torch.allclose(module(x), wanted(x), atol=1e-2 if kind == "half" else 1e-6)


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    wanted = trained()
    save_file(_under("model.", dict(wanted.state_dict())), tmp_path / "w.safetensors")
    module = Net().eval()
    assert 'prefix "model."' in load_weights(module, tmp_path / "w.safetensors", "net.py:Net")[0]
    assert torch.equal(module.head.weight, wanted.head.weight)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ModelError, match=r"not a readable \.safetensors file"):
        load_weights(module, tmp_path / "bad.safetensors", "net.py:Net")


class Wrapped(nn.Module):
    """The model within another, whose weights were saved alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Net()


def test_weights_of_the_inner_module(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "w.pt")
    module = Wrapped()
    assert load_weights(module, tmp_path / "w.pt", "e") == ('prefix "inner." put before the weights\' names',)
    assert torch.equal(module.inner.head.weight, trained().head.weight)


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "extra": (lambda state: {**state, "extra.weight": torch.ones(2)}, "not in the model: extra.weight"),
    "missing": (lambda state: {"body.0.weight": state["body.0.weight"]}, "missing in the file: body.0.bias"),
    "shape": (
        lambda state: {**state, "head.bias": torch.ones(5)},
        r"head.bias: \[5\] in the file, \[2\] in the model",
    ),
    "other names": (
        lambda state: {"conv.kernel": torch.ones(2)},
        "no name is in both: the file has conv.kernel; the model has body.0.weight",
    ),
    "optimizer": (lambda state: {"state": {0: torch.ones(1)}, "param_groups": []}, "no weights in it"),
    "integers": (
        lambda state: {name: item.to(torch.int8) for name, item in state.items()},
        "int8 in the file, the model computes in float",
    ),
    "ambiguous": (
        lambda state: {**_under("student.", state), **_under("teacher.", {k: v + 1 for k, v in state.items()})},
        "more than once: .*student.*teacher",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_names(kind: str, tmp_path: Path) -> None:
    saved, told = REFUSED[kind]
    torch.save(saved(dict(trained().state_dict())), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=told):
        load_weights(Net(), tmp_path / "w.pt", "net.py:Net")


def test_weight_norm_in_both_forms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)))
    torch.save(old.state_dict(), tmp_path / "old.pt")
    torch.save({"0.weight": old[0].weight.detach(), "0.bias": old[0].bias}, tmp_path / "plain.pt")
    x = torch.randn(2, 4)
    for file in ("old.pt", "plain.pt"):
        new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
        load_weights(new, tmp_path / file, "e")
        assert torch.allclose(new(x), old(x), atol=1e-6)


def test_lazy_layers_take_the_shapes_of_the_file(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(4, 3)).state_dict(), tmp_path / "w.pt")
    module = nn.Sequential(nn.LazyLinear(3))
    load_weights(module, tmp_path / "w.pt", "e")
    assert module[0].weight.shape == (3, 4)
