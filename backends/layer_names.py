"""What users call the layers of an exported ONNX graph: one rule for all backends that begin with one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from edgec.errors import PassError
from edgec.model.onnx_torch.names import exported_path, weight_path
from edgec.toml_source import suggest

_FUSED = re.compile(r"^fused |(/\w+Fusion/?)+\Z")
"""What ONNX Runtime adds to the name of a node that it makes of several."""
_SEPARATORS = re.compile(r"[;@]")
"""TensorFlow's converter splits tensor names here, so no layer's name may hold them."""


class Named(Protocol):
    """A layer, as each backend describes it."""

    @property
    def name(self) -> str:
        """Unique name."""
        ...


Layer = TypeVar("Layer", bound=Named)


def layer_path(node: str, weight: str, op: str) -> str:
    """What to call a layer: its module's path where that is known; other layers may have the same.

    Args:
        node: name of its node, as torch's exporter writes it.
        weight: name of its weight, if nothing else reads that; else "".
        op: what the node does.
    """
    return weight_path(weight) or module_path(node) or _FUSED.sub("", node).strip("/").rpartition("/")[2] or op.lower()


def module_path(node: str) -> str:
    """The module in a node name of torch's exporter, whatever ONNX Runtime has made of the name; else ""."""
    return exported_path(_FUSED.sub("", node))


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, each with a number after its first occurrence, and with ``_`` for what no name may hold.

    The first of each name keeps it, even where another's number would have made the same before.
    """
    wanted = [plain_name(name) for name in names]
    taken = set(wanted)
    unique: list[str] = []
    begun: set[str] = set()
    for name in wanted:
        number, candidate = 1, name
        while name in begun and candidate in taken:
            candidate = f"{name}_{number}"
            number += 1
        begun.add(name)
        taken.add(candidate)
        unique.append(candidate)
    return unique


def plain_name(name: str) -> str:
    """`name` with ``_`` for what no layer's name may hold."""
    return _SEPARATORS.sub("_", name)


def select(layers: Iterable[Layer], names: Sequence[str], where: str) -> tuple[Layer, ...]:
    """The layers with these names.

    Args:
        layers: of the model.
        names: of some of them.
        where: for messages.

    Raises:
        PassError: a name is not a layer.
    """
    known = {layer.name: layer for layer in layers}
    for name in names:
        if name not in known:
            hint = suggest(name, known) or f"the model has {', '.join(known) or 'none'}"
            raise PassError(f'no layer is called "{name}"', where=where, hint=hint)
    return tuple(known[name] for name in names)
