"""The layers of a float flatbuffer: what of it can be quantized one by one, by the user's names.

`name_tensors` writes each layer's name into the names of the tensors it makes. TensorFlow's quantizer keeps them, so
they name the layer of an op in the quantized file too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.backends.layer_names import plain_name
from edgec.backends.tflite.capability import STATIC_INT8, WEIGHTED
from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.backends.tflite.functions_read import functions_read
from edgec.backends.tflite.module_paths import Origin, Product, weight_key

_FOLLOWS = frozenset(
    {"ARG_MAX", "ARG_MIN", "AVERAGE_POOL_2D", "EMBEDDING_LOOKUP", "EQUAL", "GREATER", "GREATER_EQUAL", "LESS"}
    | {"LESS_EQUAL", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "NOT_EQUAL", "REDUCE_MAX", "REDUCE_MIN"}
    | {"RELU", "RELU6", "RELU_N1_TO_1"}
)
"""Ops that choose among values and make no new error: they take the dtype of their neighbours."""
_OPS: Mapping[str, str] = {
    "BATCH_MATMUL": "matmul",
    "CONV_2D": "conv2d",
    "CONV_3D": "conv3d",
    "DEPTHWISE_CONV_2D": "depthwise-conv2d",
    "TRANSPOSE_CONV": "transposed-conv2d",
}
"""TFLite's op -> `Capability.op`, where it is not the same in lower case."""


def _kind_name(kind: str) -> str:
    return _OPS.get(kind, kind.lower().replace("_", "-"))


WITH_WEIGHTS = frozenset(map(_kind_name, WEIGHTED)) | {"linear"}
"""Ops of layers that multiply with weights."""


@dataclass(frozen=True)
class PlacedLayer:
    """A layer and the operators it consists of.

    Attributes:
        name: module path in the user's model, or its node's name, or the Keras layer that onnx2tf made; unique.
        op: as `edgec.backends.interface.Capability.op`.
        places: numbers of its operators, in execution order; several where onnx2tf or the converter split it.
    """

    name: str
    op: str
    places: tuple[int, ...]


def find_layers(model: Any, products: Sequence[Product], origins: Sequence[Origin] = ()) -> tuple[PlacedLayer, ...]:
    """All layers of a float flatbuffer (a ``ModelT``), in execution order.

    Args:
        model: main graph before quantization, with the tensor names that the converter gave.
        products: of the ONNX graph it was made from.
        origins: the nodes of that graph.
    """
    graph = model.subgraphs[0]
    known = _Origins(origins)
    places = [place for place, operator in enumerate(graph.operators or ()) if _is_layer(model, graph, operator)]
    names = _product_names(model, graph, places, products)
    names |= _bias_names(model, graph, places, names)
    names |= _function_names(model, graph, names)
    places = sorted({*places, *names})
    taken = set(names.values())
    groups: dict[str, list[int]] = defaultdict(list)
    norms: set[str] = set()
    for place in places:
        operator = graph.operators[place]
        origin = known.of(text(graph.tensors[indices(operator.outputs)[0]].name))
        name = names.get(place) or (origin.name if origin else _keras_layer(graph, operator, kind_of(model, operator)))
        norm = origin is not None and origin.op == "LayerNormalization"
        if place not in names and name in taken:
            name = f"{name}_op"  # a module of the user's is called like one of onnx2tf's layers
        groups[name].append(place)
        norms |= {name} if norm or name.startswith("layer_normalization") else set()
    return tuple(
        PlacedLayer(name, "layer-norm" if name in norms else _op(model, graph, operators), tuple(operators))
        for name, operators in groups.items()
    )


class _Origins:
    """Which node of the ONNX graph a tensor of the direct converter's comes from."""

    def __init__(self, origins: Sequence[Origin]) -> None:
        self._made = {tensor: item for item in origins for tensor in item.tensors}
        self._nodes = {item.node: item for item in origins}

    def of(self, tensor: str) -> Origin | None:
        """The node that makes `tensor`, or within which it lies (``<node>_<part>``)."""
        if tensor in self._made:
            return self._made[tensor]
        parts = tensor.split("_")
        for length in range(len(parts) - 1, 0, -1):
            if node := self._nodes.get("_".join(parts[:length])):
                return node
        return None


def name_tensors(model: Any, layers: Sequence[PlacedLayer]) -> None:
    """Name what each op makes ``<layer>:<number of the op>``, in place; others go by their kind (``op/add``)."""
    graph = model.subgraphs[0]
    owner = {place: layer.name for layer in layers for place in layer.places}
    for place, operator in enumerate(graph.operators or ()):
        # no module is called like an operator with a slash
        name = owner.get(place) or f"op/{kind_of(model, operator).lower()}"
        for number, index in enumerate(indices(operator.outputs)):
            graph.tensors[index].name = f"{name}/{number}:{place}" if number else f"{name}:{place}"


def _is_layer(model: Any, graph: Any, operator: Any) -> bool:
    kind = kind_of(model, operator)
    outputs = [graph.tensors[index] for index in indices(operator.outputs)]
    floats = names_of("TensorType")
    return (
        kind in STATIC_INT8 | WEIGHTED
        and kind not in _FOLLOWS
        and all(floats[tensor.type] == "FLOAT32" for tensor in outputs)
    )


def _weight(model: Any, graph: Any, operator: Any) -> Any:
    """The constant that an op multiplies with, as float32; None: there is none."""
    if kind_of(model, operator) not in WEIGHTED | {"BATCH_MATMUL"}:
        return None
    constants = [graph.tensors[index] for index in indices(operator.inputs) if index >= 0]
    constants = [item for item in constants if is_constant(model, item) and len(indices(item.shape)) >= 2]
    if not constants or names_of("TensorType")[constants[0].type] != "FLOAT32":
        return None
    return np.frombuffer(bytes(model.buffers[constants[0].buffer].data), np.float32)


def _product_names(model: Any, graph: Any, places: Sequence[int], products: Sequence[Product]) -> dict[int, str]:
    """Place -> name of the ONNX node, by equal weights; what is left over by its size, where that is unambiguous."""
    weights = {place: _weight(model, graph, graph.operators[place]) for place in places}
    weights = {place: weight for place, weight in weights.items() if weight is not None}
    by_operator: dict[int, str] = {}
    by_key: dict[str, list[str]] = defaultdict(list)
    for product in products:
        for key in dict.fromkeys(product.keys):
            by_key[key].append(product.name)
    same: dict[str, list[int]] = defaultdict(list)
    for place, weight in weights.items():
        same[weight_key(weight)].append(place)
    for key, equal in same.items():
        if key in by_key:
            by_operator |= _spread(equal, by_key[key])
    # a factor that the converter multiplied into the weights changed their values, but not their number
    left = [product for product in products if product.name not in by_operator.values()]
    for size in Counter(size for product in left for size in product.sizes[:1]):
        names = [product.name for product in left if product.sizes[0] == size]
        rest = [place for place, weight in weights.items() if place not in by_operator and weight.size == size]
        if len(names) == len(rest):
            by_operator |= dict(zip(rest, names, strict=True))
    return by_operator


def _bias_names(model: Any, graph: Any, places: Sequence[int], names: Mapping[int, str]) -> dict[int, str]:
    """Sums of a product, which nothing else reads, and a constant: the product's bias, as part of its layer."""
    made = {index: place for place in names for index in indices(graph.operators[place].outputs)}
    readers = Counter(index for operator in graph.operators for index in indices(operator.inputs))
    kept = set(indices(graph.outputs))
    by_tensor = {}
    for place in places:
        operator = graph.operators[place]
        read = [index for index in indices(operator.inputs) if not is_constant(model, graph.tensors[index])]
        if kind_of(model, operator) != "ADD" or len(read) != 1:
            continue
        if read[0] in made and readers[read[0]] == 1 and read[0] not in kept:
            by_tensor[place] = names[made[read[0]]]
    return by_tensor


def _function_names(model: Any, graph: Any, names: Mapping[int, str]) -> dict[int, str]:
    """Ops of the activation function that alone reads what a product makes, as part of its layer.

    Quantized between a layer in float and the next one, SiLU's two ops would round all three of its tensors.
    """
    functions = functions_read(model)
    made = {index: name for place, name in names.items() for index in indices(graph.operators[place].outputs)}
    return {
        place: made[index]
        for place, operator in enumerate(graph.operators or ())
        for index in indices(operator.inputs)
        if index in functions and index in made and place not in names
    }


def _spread(places: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """Equal weights: as many ops for each name, in order (an unrolled loop repeats its ops)."""
    share = max(len(places) // len(names), 1)
    return {place: names[min(number // share, len(names) - 1)] for number, place in enumerate(places)}


def _keras_layer(graph: Any, operator: Any, kind: str) -> str:
    """The Keras layer an op came from: ``model_1/layer_normalization_2/batchnorm/add`` -> ``layer_normalization_2``."""
    names = text(graph.tensors[indices(operator.outputs)[0]].name).split(";")
    parts = [re.sub(r"^model(_\d+)?/", "", name).partition("/") for name in names if "/" in name]
    return plain_name(parts[0][0]) if parts else kind.lower()


def _op(model: Any, graph: Any, places: Sequence[int]) -> str:
    kinds = [kind_of(model, graph.operators[place]) for place in places]
    product = next((place for place, kind in zip(places, kinds, strict=True) if kind in WEIGHTED), None)
    if product is not None and kinds[places.index(product)] == "FULLY_CONNECTED":
        return "linear" if _weight(model, graph, graph.operators[product]) is not None else "matmul"
    if product is None and len(set(kinds)) > 1:
        return "elementwise"  # such as the gates of a recurrent cell
    kind = kinds[0] if product is None else kinds[places.index(product)]
    return _kind_name(kind)
