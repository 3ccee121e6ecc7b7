"""What the user calls the weighted products of an exported ONNX graph, and how to know them again by their weights.

onnx2tf and TensorFlow's converter rename, fuse and repeat ops, but keep the values of weights: sorted, these do not
depend on the axis order either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.model.spec import Array

if TYPE_CHECKING:
    import onnx

_EXPORTED = "inner"
"""edgec exports a module from within a wrapper, whose name for it leads all names that the exporter writes."""
_WEIGHTS: Mapping[str, Sequence[int]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}
"""Op -> which of its inputs may be weights."""
_GATES: Mapping[str, int] = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Product:
    """A product with weights in the exported graph.

    Attributes:
        name: module path in the user's model where it is known, else the node's own name; unique.
        keys: for each piece that its weights may be found in, a digest of the piece's values.
        sizes: number of elements of these pieces.
    """

    name: str
    keys: tuple[str, ...]
    sizes: tuple[int, ...]


def find_products(proto: onnx.ModelProto) -> tuple[Product, ...]:
    """All products with weights, in execution order."""
    from onnx import numpy_helper

    held = {item.name: item for item in proto.graph.initializer}
    found: list[tuple[onnx.NodeProto, str, list[Array]]] = []
    for node in proto.graph.node:
        names = [node.input[at] for at in _WEIGHTS.get(node.op_type, ()) if at < len(node.input)]
        weights = [name for name in names if name in held and len(held[name].dims) >= 2]
        if weights:
            pieces = [
                piece
                for name in weights
                for piece in _pieces(numpy_helper.to_array(held[name]), _GATES.get(node.op_type, 1), node.op_type)
            ]
            found.append((node, weights[0] if len(weights) == 1 else "", pieces))
    readers = [weight for _, weight, _ in found]
    names = unique_names(_path(node, weight if readers.count(weight) == 1 else "") for node, weight, _ in found)
    return tuple(
        Product(name, tuple(weight_key(piece) for piece in pieces), tuple(piece.size for piece in pieces))
        for name, (_, _, pieces) in zip(names, found, strict=True)
    )


def weight_key(weight: Array) -> str:
    """Digest of the values of a weight, whatever their order."""
    return hashlib.sha256(np.sort(weight, axis=None).tobytes()).hexdigest()


def module_path(node_name: str) -> str:
    """The module in a node name of torch's exporter: ``/blocks/blocks.0/conv/Conv`` -> ``blocks.0.conv``; else "".

    Each part between slashes is a module's name in its parent; a part of a container repeats the container's name.
    """
    path: list[str] = []
    for part in node_name.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    joined = ".".join(path)
    return "" if joined == _EXPORTED else joined.removeprefix(f"{_EXPORTED}.")


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, with a number after those that were there before."""
    found: dict[str, None] = {}
    for name in names:
        number, candidate = 1, name
        while candidate in found:
            candidate = f"{name}_{number}"
            number += 1
        found[candidate] = None
    return list(found)


def _path(node: onnx.NodeProto, weight: str) -> str:
    by_weight = weight.removesuffix(".weight").removeprefix(f"{_EXPORTED}.") if weight.endswith(".weight") else ""
    return by_weight or module_path(node.name) or node.name.strip("/").rpartition("/")[2] or node.op_type.lower()


def _pieces(weight: Array, gates: int, op: str) -> list[Array]:
    """A weight as a whole; of a recurrent op also each direction, and each gate of a direction."""
    if op not in ("LSTM", "GRU", "RNN"):
        return [weight]
    directions = list(weight)
    return [*directions, *(gate for item in directions for gate in np.split(item, gates)), weight]
