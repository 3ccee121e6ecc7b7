"""The backend's own model: an ONNX graph with the float model's tensor specs, and how it becomes stable bytes."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.errors import PassError, UnsupportedError
from edgec.model.spec import Array, TensorSpec

if TYPE_CHECKING:
    import onnx

    from edgec.quant.statistics import TensorStatistics

MAX_BYTES = 1_900_000_000
"""Protobuf ends at 2 GB; a larger ONNX model needs side files, which an artifact does not have."""
STANDARD_DOMAINS = ("", "ai.onnx")
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own ops."""


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX graph between two passes. Passes never change `proto`; they `copy` it.

    Attributes:
        name: the float model's name.
        proto: the graph; every node has a unique name, weights are inside.
        inputs: the float model's inputs, in call order; the graph may lack those that it does not use.
        outputs: the float model's outputs, in order.
        statistics: what calibration saw of each tensor that may be quantized; None for a tensor that no 8-bit scale
            can hold. Empty before `CollectRanges`.
        kept_float: node name -> why quantization left it in float, though its op has an 8-bit kernel.
    """

    name: str
    proto: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    statistics: Mapping[str, TensorStatistics | None] = field(default_factory=dict)
    kept_float: Mapping[str, str] = field(default_factory=dict)


def input_names(model: OnnxModel) -> dict[str, str]:
    """Float model's input name -> graph's, without the inputs that no op reads (exporters drop those).

    Raises:
        UnsupportedError: the graph's inputs cannot be matched to the model's.
    """
    there = [item.name for item in model.proto.graph.input]
    stated = [spec.name for spec in model.inputs]
    if set(there) <= set(stated):
        return {name: name for name in stated if name in there}
    if len(there) != len(stated):
        raise UnsupportedError(
            f"the ONNX graph's inputs ({', '.join(there)}) cannot be matched to the model's ({', '.join(stated)})",
            where=model.name,
        )
    return dict(zip(stated, there, strict=True))


def output_names(model: OnnxModel) -> dict[str, str]:
    """Float model's output name -> graph's.

    Raises:
        UnsupportedError: their numbers differ.
    """
    there = [item.name for item in model.proto.graph.output]
    stated = [spec.name for spec in model.outputs]
    if len(there) != len(stated):
        raise UnsupportedError(f"the ONNX graph has {len(there)} outputs, the model {len(stated)}", where=model.name)
    return dict(zip(stated, stated if set(there) == set(stated) else there, strict=True))


def copy(model: OnnxModel) -> onnx.ModelProto:
    """A graph of its own, free to be changed."""
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    return proto


def canonical_bytes(model: OnnxModel, *, shapes: bool) -> bytes:
    """The graph as bytes that are equal for equal content.

    Args:
        model: the graph.
        shapes: keep the inferred shapes of inner tensors; passes need them, artifacts do not.

    Raises:
        UnsupportedError: the model is too large for one file.
    """
    proto = copy(model)
    proto.producer_name, proto.producer_version = "edgec", ""
    proto.doc_string, proto.domain, proto.model_version = "", "", 0
    del proto.metadata_props[:]
    proto.graph.name = "model"  # whatever the file was called
    for graph in graphs(proto.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        if not shapes:
            del graph.value_info[:]
        _sort(graph.initializer)
        _sort(graph.value_info)
        documented: tuple[Any, ...] = (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output)
        for item in documented:
            item.doc_string = ""
            del item.metadata_props[:]
    _drop_unused_domains(proto)
    if proto.ByteSize() > MAX_BYTES:
        raise UnsupportedError(
            f"the ONNX model has {proto.ByteSize() / 1e9:.1f} GB, and one ONNX file holds at most 1.9 GB",
            where=model.name,
            hint="use a smaller precision, or another backend",
        )
    return bytes(proto.SerializeToString(deterministic=True))


def fingerprint(model: OnnxModel) -> str:
    """SHA-256 (hex) over structure, constants, statistics and what quantization left in float."""
    digest = hashlib.sha256(canonical_bytes(model, shapes=True))
    for tensor, seen in sorted(model.statistics.items()):
        digest.update(tensor.encode())
        if seen is not None:
            arrays = [seen.lows, seen.highs, seen.average_lows, seen.average_highs]
            if seen.histograms is not None:
                arrays += [seen.histograms.counts, seen.histograms.zeros, seen.histograms.exponents]
            for array in arrays:
                digest.update(array.tobytes())
    digest.update(repr(sorted(model.kept_float.items())).encode())
    return digest.hexdigest()


def _sort(items: Any) -> None:
    """Order named protobuf entries by name: toolchains append them in the order of their hash tables."""
    ordered = sorted(items, key=lambda item: item.name)
    copies = [type(item).FromString(item.SerializeToString()) for item in ordered]
    del items[:]
    items.extend(copies)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and all bodies of its control flow."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, also those in bodies of control flow."""
    for graph in graphs(proto.graph):
        yield from graph.node


def _drop_unused_domains(proto: onnx.ModelProto) -> None:
    used = {node.domain for node in all_nodes(proto)} | {item.domain for item in proto.functions} | {""}
    for function in proto.functions:
        used |= {node.domain for node in function.node}
    kept = sorted(
        (item.domain, item.version) for item in proto.opset_import if item.domain in used or item.domain == "ai.onnx"
    )
    del proto.opset_import[:]
    for domain, version in kept:
        proto.opset_import.add(domain=domain, version=version)


def name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a unique name in place: quantizers select nodes by name and ignore names they do not know."""
    counts = Counter(node.name for node in all_nodes(proto))
    taken = set(counts)
    number: dict[str, int] = defaultdict(int)
    for node in all_nodes(proto):
        if node.name and counts[node.name] == 1:
            continue
        base = node.name or node.op_type
        while (name := f"{base}_{number[base]}") in taken:
            number[base] += 1
        taken.add(name)
        node.name = name


def weights_in_bodies(proto: onnx.ModelProto) -> dict[str, str]:
    """Node of the main graph with control flow -> why its products stay in float: quantizers do not look inside."""
    kinds = ("Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
    weights = {}
    for node in proto.graph.node:
        inside = sum(item.op_type in kinds for body in bodies(node) for graph in graphs(body) for item in graph.node)
        if inside:
            weights[node.name] = (
                f"quantizers do not look into the bodies of {node.op_type}, which hold {inside} products"
            )
    return weights


def check_names(proto: onnx.ModelProto, names: Iterable[str], where: str) -> None:
    """Raise PassError when one of `names` is not a node: the quantizer would silently ignore it.

    Args:
        proto: the graph.
        names: of nodes.
        where: for messages.
    """
    if unknown := sorted(set(names) - {node.name for node in proto.graph.node}):
        raise PassError(f"no such node: {', '.join(unknown)}", where=where)


def opset(proto: onnx.ModelProto) -> int:
    """Version of the standard operator set."""
    return max((item.version for item in proto.opset_import if item.domain in STANDARD_DOMAINS), default=1)


def import_microsoft(proto: onnx.ModelProto) -> None:
    """Declare ONNX Runtime's own ops, in place."""
    if all(item.domain != MICROSOFT for item in proto.opset_import):
        proto.opset_import.add(domain=MICROSOFT, version=1)


def constants(proto: onnx.ModelProto) -> dict[str, Array]:
    """All constant tensors of the main graph by name."""
    from onnx import numpy_helper

    arrays = {item.name: np.asarray(numpy_helper.to_array(item)) for item in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    arrays[node.output[0]] = np.asarray(numpy_helper.to_array(attribute.t))
    return arrays


@dataclass(frozen=True)
class TensorType:
    """dtype (`onnx.TensorProto.DataType`; 0 where it is not known) and shape of a tensor.

    Attributes:
        shape: 0 for a dim that is not known; None where not even the rank is.
    """

    dtype: int
    shape: tuple[int, ...] | None


def tensor_types(proto: onnx.ModelProto) -> dict[str, TensorType]:
    """What the file states or shape inference found, of the main graph's tensors."""
    graph = proto.graph
    types = {item.name: TensorType(item.data_type, tuple(item.dims)) for item in graph.initializer}
    for item in (*graph.value_info, *graph.input, *graph.output):
        kind = item.type.tensor_type
        shape = tuple(dim.dim_value for dim in kind.shape.dim) if kind.HasField("shape") else None
        types[item.name] = TensorType(kind.elem_type, shape)
    return types


def consumers(proto: onnx.ModelProto) -> Mapping[str, list[onnx.NodeProto]]:
    """Tensor name -> nodes of the main graph that read it, they themselves or the bodies of their control flow."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for tensor in dict.fromkeys((*node.input, *read_by_bodies(node))):
            readers[tensor].append(node)
    return readers


def read_by_bodies(node: onnx.NodeProto) -> Iterator[str]:
    """Names of tensors that the bodies of a control flow op read or return; of their own ones too."""
    for body in bodies(node):
        for graph in graphs(body):
            for inner in graph.node:
                yield from inner.input
            yield from (item.name for item in graph.output)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a control flow op."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def producers(proto: onnx.ModelProto) -> Mapping[str, onnx.NodeProto]:
    """Tensor name -> the node of the main graph that writes it."""
    return {tensor: node for node in proto.graph.node for tensor in node.output if tensor}
