"""How the nets are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[..., Any]


class One(nn.Module):
    """`call` on layers and one input."""

    def __init__(self, call: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Two(One):
    """`call` on layers and two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return self.call(self, x, y)


@dataclass(frozen=True)
class Net:
    """How to make a net, and the shapes and dtypes of its inputs."""

    make: Callable[[], nn.Module]
    inputs: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (((1, 8, 8, 8), torch.float32),)
    int8: bool = True
    """Whether something of it is computed in int8."""

    def draw(self, seed: int) -> tuple[Tensor, ...]:
        """One sample."""
        source = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(shape, generator=source) if dtype is torch.float32
            else torch.randint(0, 2 if dtype is torch.bool else 10, shape, generator=source).to(dtype)
            for shape, dtype in self.inputs
        )  # fmt: skip


def image(
    call: Forward, width: int = 8, *, size: tuple[int, ...] = (1, 8, 8, 8), **layers: Callable[[], nn.Module]
) -> Net:
    """A convolution, `call` on its result, and a convolution on what that gives, if it has `width` channels."""

    def make() -> nn.Module:
        made = {name: layer() for name, layer in layers.items()}
        return One(lambda net, x: net.last(call(net, net.first(x))), first=nn.Conv2d(size[1], 8, 3, padding=1),
                   last=nn.Conv2d(width, 4, 1), **made)  # fmt: skip

    return Net(make, ((size, torch.float32),))


def rows(call: Forward, width: int = 16, **layers: Callable[[], nn.Module]) -> Net:
    """As `_image`, with linear layers on (1, 6, 16)."""

    def make() -> nn.Module:
        made = {name: layer() for name, layer in layers.items()}
        return One(lambda net, x: net.last(call(net, net.first(x))), first=nn.Linear(16, 16), last=nn.Linear(width, 4),
                   **made)  # fmt: skip

    return Net(make, (((1, 6, 16), torch.float32),))


def plain(
    call: Forward, *inputs: tuple[tuple[int, ...], torch.dtype], int8: bool = True, **layers: Callable[[], nn.Module]
) -> Net:
    def make() -> nn.Module:
        made = {name: layer() for name, layer in layers.items()}
        return (One if len(inputs) == 1 else Two)(call, **made)

    return Net(make, inputs, int8)


class Token(nn.Module):
    """Holds a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, 1, 16))

    def expand(self, *sizes: int) -> Tensor:
        """The parameter, expanded."""
        return self.value.expand(*sizes)


F32 = torch.float32
BOOL, INT64, INT32 = torch.bool, torch.int64, torch.int32
