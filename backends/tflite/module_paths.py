"""What the user calls the weighted products of an exported ONNX graph, and how to know them again by their weights.

The converters rename, fuse and repeat ops, but keep the values of weights: sorted, these do not
depend on the axis order either.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.layer_names import layer_path, plain_name, unique_names
from edgec.model.spec import Array

if TYPE_CHECKING:
    import onnx

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


@dataclass(frozen=True)
class Origin:
    """A node of the graph that is converted.

    Attributes:
        name: what the user calls it; unique.
        op: as ONNX has it.
        node: its own name, with which the direct converter begins the names of tensors within it.
        tensors: names of what it makes.
    """

    name: str
    op: str
    node: str
    tensors: tuple[str, ...]


def find_products(proto: onnx.ModelProto) -> tuple[Product, ...]:
    """All products with weights, in execution order."""
    from onnx import numpy_helper

    held = {item.name: item for item in proto.graph.initializer}
    # the exporter hands the weight of a module that is called again through an Identity
    same = {item: item for item in held}
    for node in proto.graph.node:
        if node.op_type == "Identity" and node.input[0] in same:
            same[node.output[0]] = same[node.input[0]]
    products: list[tuple[onnx.NodeProto, str, list[Array]]] = []
    for node in proto.graph.node:
        names = [same.get(node.input[at], "") for at in _WEIGHTS.get(node.op_type, ()) if at < len(node.input)]
        weights = [name for name in names if name in held and len(held[name].dims) >= 2]
        if weights:
            pieces = [
                piece
                for name in weights
                for piece in _pieces(numpy_helper.to_array(held[name]), _GATES.get(node.op_type, 1), node.op_type)
            ]
            products.append((node, weights[0] if len(weights) == 1 else "", pieces))
    # an embedding that reads a layer's weight too would lend the layer its name
    readers = Counter(same.get(name, name) for node in proto.graph.node for name in node.input)
    names = unique_names(
        layer_path(node.name, weight if readers[weight] == 1 else "", node.op_type) for node, weight, _ in products
    )
    return tuple(
        Product(name, tuple(weight_key(piece) for piece in pieces), tuple(piece.size for piece in pieces))
        for name, (_, _, pieces) in zip(names, products, strict=True)
    )


def find_origins(proto: onnx.ModelProto, products: Sequence[Product]) -> tuple[Origin, ...]:
    """All nodes by the users' names, those of products as these are called."""
    taken = {product.name for product in products}
    origins = []
    for node in proto.graph.node:
        name = plain_name(layer_path(node.name, "", node.op_type))
        stem, number = name, 1
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        origins.append(Origin(name, node.op_type, node.name, tuple(node.output)))
    return tuple(origins)


def weight_key(weight: Array) -> str:
    """Digest of the values of a weight, whatever their order."""
    return hashlib.sha256(np.sort(weight, axis=None).tobytes()).hexdigest()


def _pieces(weight: Array, gates: int, op: str) -> list[Array]:
    """A weight as a whole; of a recurrent op also each direction, and each gate of a direction."""
    if op not in ("LSTM", "GRU", "RNN"):
        return [weight]
    directions = list(weight)
    return [*directions, *(gate for item in directions for gate in np.split(item, gates)), weight]
