"""Names of the layers of an ONNX graph: the module's path in the user's model, where the exporter kept it."""

from __future__ import annotations

from typing import Any

_WRAPPER = "inner"
"""edgec exports a module from within a wrapper, whose name for it leads all names that the exporter writes."""


def layer_name(node: Any) -> str:
    """A dotted path for a node: by its weight ``a.b.weight``, by its own name ``/a/b/Conv``, or by its op."""
    name = str(node.name)
    weight = str(node.input[1]) if len(node.input) > 1 else ""
    plain = name.strip("/").rpartition("/")[2]
    return weight_path(weight) or exported_path(name) or plain or str(node.op_type).lower()


def weight_path(weight: str) -> str:
    """The module of a weight that kept its name in the user's model: ``a.b.weight`` -> ``a.b``; else ""."""
    return weight.removesuffix(".weight").removeprefix(f"{_WRAPPER}.") if weight.endswith(".weight") else ""


def exported_path(node: str) -> str:
    """The module in a node name of torch's exporter: ``/blocks/blocks.0/conv/Conv`` -> ``blocks.0.conv``; else "".

    Each part between slashes is a module's name in its parent; a part of a container repeats the container's name.
    """
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    joined = ".".join(path)
    return "" if joined == _WRAPPER else joined.removeprefix(f"{_WRAPPER}.")
