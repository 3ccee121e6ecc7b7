"""The constants of an ONNX file, for comparisons of two files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def tensors(file: Path) -> Mapping[str, str]:
    """Name of each initializer, and of each Constant node's output -> SHA-256 of its type, dims and data."""
    import onnx

    return dict(_constants(onnx.load(file).graph, ""))


def _constants(graph: Any, above: str) -> Iterator[tuple[str, str]]:
    for tensor in graph.initializer:
        yield above + tensor.name, _digest(tensor)
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield (
                    above + (node.output[0] if node.op_type == "Constant" else f"{node.name}.{attribute.name}"),
                    (_digest(attribute.t)),
                )
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _constants(inner, f"{above}{node.name or index}/")


def _digest(tensor: Any) -> str:
    nameless = type(tensor)()
    nameless.CopyFrom(tensor)
    nameless.ClearField("name")
    return hashlib.sha256(nameless.SerializeToString(deterministic=True)).hexdigest()
