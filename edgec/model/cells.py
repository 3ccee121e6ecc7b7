"""Recurrent cells by their linear layers and gates: exporters lack the whole cell, and quantizers need its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _PlainCell(nn.Module):
    """The two linear layers of a recurrent cell, with its weights."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.ih = _linear(cell.weight_ih, cell.bias_ih)
        self.hh = _linear(cell.weight_hh, cell.bias_hh)
        self.input_size, self.hidden_size, self.bias = cell.input_size, cell.hidden_size, cell.bias
        self.nonlinearity = getattr(cell, "nonlinearity", "tanh")

    # what code around a cell may read of it
    weight_ih = property(lambda self: self.ih.weight)
    weight_hh = property(lambda self: self.hh.weight)
    bias_ih = property(lambda self: self.ih.bias)
    bias_hh = property(lambda self: self.hh.bias)

    def _start(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros([*x.shape[:-1], self.hidden_size], dtype=x.dtype)


class PlainLSTMCell(_PlainCell):
    """As ``nn.LSTMCell``."""

    def forward(
        self, x: torch.Tensor, hx: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next hidden and cell state."""
        hidden, cell = hx if hx is not None else (self._start(x), self._start(x))
        into, forget, candidate, out = (self.ih(x) + self.hh(hidden)).chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(candidate)
        return torch.sigmoid(out) * torch.tanh(cell), cell


class PlainGRUCell(_PlainCell):
    """As ``nn.GRUCell``."""

    def forward(self, x: torch.Tensor, hx: torch.Tensor | None = None) -> torch.Tensor:
        """The next hidden state."""
        hidden = hx if hx is not None else self._start(x)
        reset_x, update_x, candidate_x = self.ih(x).chunk(3, -1)
        reset_h, update_h, candidate_h = self.hh(hidden).chunk(3, -1)
        update = torch.sigmoid(update_x + update_h)
        candidate = torch.tanh(candidate_x + torch.sigmoid(reset_x + reset_h) * candidate_h)
        return candidate + update * (hidden - candidate)


class PlainRNNCell(_PlainCell):
    """As ``nn.RNNCell``."""

    def forward(self, x: torch.Tensor, hx: torch.Tensor | None = None) -> torch.Tensor:
        """The next hidden state."""
        total = self.ih(x) + self.hh(hx if hx is not None else self._start(x))
        return functional.relu(total) if self.nonlinearity == "relu" else torch.tanh(total)


_PLAIN: dict[type[nn.Module], type[_PlainCell]] = {
    nn.LSTMCell: PlainLSTMCell,
    nn.GRUCell: PlainGRUCell,
    nn.RNNCell: PlainRNNCell,
}


def has_cells(module: nn.Module) -> bool:
    """Whether `module` has recurrent cells of torch."""
    return any(type(part) in _PLAIN for part in module.modules())


def with_plain_cells(module: nn.Module) -> nn.Module:
    """`module` with each cell replaced by its layers; a cell that is the module itself gives another module."""
    replaced: dict[nn.Module, nn.Module] = {}
    for part in list(module.modules()):
        for name, child in list(part._modules.items()):
            if child is not None and type(child) in _PLAIN:
                if child not in replaced:
                    replaced[child] = _PLAIN[type(child)](child).train(child.training)
                part._modules[name] = replaced[child]
    return _PLAIN[type(module)](module).train(module.training) if type(module) in _PLAIN else module


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
    return layer
