"""What to call the layers of the torch graph: the module's path in the user's model, where the exporter kept it."""

from __future__ import annotations

from typing import Any


def layer_name(node: Any) -> str:
    """A dotted path for a node: from its weight ``a.b.weight``, its name ``/a/b/Conv`` (-> ``a.b``), or its op."""
    for name in map(str, node.input[1:2]):
        if name.endswith(".weight"):
            return name.removesuffix(".weight")
    name = str(node.name)
    return module_path(name) or name.strip("/").rpartition("/")[2] or str(node.op_type).lower()


def module_path(node: str) -> str:
    """The module in a node name of torch's exporter: ``/blocks/blocks.0/conv/Conv`` -> ``blocks.0.conv``; else "".

    Each part between slashes is a module's name in its parent; a part of a container repeats the container's name.
    """
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)
