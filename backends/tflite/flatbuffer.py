"""Reading and normalising TFLite flatbuffers, by the schema that ai-edge-litert ships (no TensorFlow needed)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from edgec.backends.tflite.audit import stored_tensors
from edgec.errors import UnsupportedError

_ALIGNMENT = 16
"""Bytes; TensorFlow's own writer aligns constants so, and SIMD kernels may read them in place."""


@dataclass(frozen=True)
class LiteTensor:
    """Name, dtype (NumPy's name) and per-tensor scale of one tensor.

    `stored`: it is a constant that a DEQUANTIZE op makes of codes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    constant: bool
    stored: bool = False


@dataclass(frozen=True)
class LiteOp:
    """One operator of a program; `inputs` leaves out absent optional ones."""

    op: str
    custom: str
    inputs: tuple[LiteTensor, ...]
    outputs: tuple[LiteTensor, ...]


@cache
def names_of(enum: str) -> Mapping[int, str]:
    """Value -> name of one of the schema's enumerations."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enum)).items() if isinstance(value, int)}


def unpack(content: bytes) -> Any:
    """The file as objects of the schema (a ``ModelT``), to be edited and packed again."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any) -> bytes:
    """The file of a ``ModelT``; equal constants are stored once, and aligned as TensorFlow's own writer does.

    Tensors that nothing reads or makes go, and operator codes that no operator has.

    Metadata (converter version, minimum runtime) is dropped: what the file needs is measured by loading it.
    """
    import flatbuffers  # type: ignore[import-untyped]

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]  # the package has no types
        def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802  # the library's name
            return super().StartVector(size, count, max(alignment, _ALIGNMENT))

    model.metadata = model.metadataBuffer = None
    for index, graph in enumerate(model.subgraphs):
        _drop_unread(graph, [item for item in model.signatureDefs or () if item.subgraphIndex == index])
    _share_equal_buffers(model)
    _drop_unused_codes(model)
    builder = AlignedBuilder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _drop_unread(graph: Any, signatures: Sequence[Any]) -> None:
    """Drop the tensors of a subgraph that no op and no interface names, and number the others anew."""
    named = {*indices(graph.inputs), *indices(graph.outputs)}
    for operator in graph.operators:
        named.update(*map(indices, (operator.inputs, operator.outputs, operator.intermediates)))
    kept = [index for index in range(len(graph.tensors)) if index in named]
    place = {-1: -1} | {index: number for number, index in enumerate(kept)}  # -1 stands for an input that is left out

    def moved(vector: Any) -> Any:
        return None if vector is None else np.array([place[index] for index in indices(vector)], np.int32)

    graph.tensors = [graph.tensors[index] for index in kept]
    graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
    for operator in graph.operators:
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
        operator.intermediates = moved(operator.intermediates)
    for signature in signatures:
        for item in (*signature.inputs, *signature.outputs):
            item.tensorIndex = place[int(item.tensorIndex)]


def _drop_unused_codes(model: Any) -> None:
    """Drop operator codes that no operator has: TensorFlow's calibrator refuses them."""
    used = sorted({item.opcodeIndex for graph in model.subgraphs for item in graph.operators})
    place = {index: number for number, index in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for graph in model.subgraphs:
        for item in graph.operators:
            item.opcodeIndex = place[item.opcodeIndex]


def _share_equal_buffers(model: Any) -> None:
    """Point tensors with equal bytes to one buffer, and drop those that nothing points to."""
    first: dict[bytes, int] = {}
    kept = model.buffers[:1]  # by convention empty: tensors without a value
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is None or len(data) == 0:
                tensor.buffer = 0
                continue
            key = bytes(data)
            if key not in first:
                first[key] = len(kept)
                kept.append(model.buffers[tensor.buffer])
            tensor.buffer = first[key]
    model.buffers = kept


def text(raw: Any) -> str:
    """A string of the schema."""
    return raw.decode() if isinstance(raw, bytes) else str(raw or "")


def read_ops(content: bytes) -> tuple[LiteOp, ...]:
    """All operators of a TFLite file, over all subgraphs, in execution order."""
    model = unpack(content)
    return tuple(op for graph in model.subgraphs for op in _graph_ops(model, graph))


def _graph_ops(model: Any, graph: Any) -> Iterator[LiteOp]:
    tensors = [_tensor(model, item) for item in graph.tensors]
    ops = [(kind_of(model, item), indices(item.inputs), indices(item.outputs)) for item in graph.operators or ()]
    for index in stored_tensors(ops, {index for index, tensor in enumerate(tensors) if tensor.constant}):
        tensors[index] = replace(tensors[index], stored=True)
    for item in graph.operators or ():
        code = model.operatorCodes[item.opcodeIndex]
        yield LiteOp(
            op=kind_of(model, item),
            custom=text(code.customCode),
            inputs=tuple(tensors[index] for index in indices(item.inputs) if index >= 0),
            outputs=tuple(tensors[index] for index in indices(item.outputs)),
        )


def kind_of(model: Any, operator: Any) -> str:
    """Name of an operator's op, such as ``CONV_2D``."""
    code = model.operatorCodes[operator.opcodeIndex]
    return names_of("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]


def is_constant(model: Any, tensor: Any) -> bool:
    """Whether a tensor's value is in the file."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def indices(vector: Any) -> list[int]:
    """A vector of numbers of the schema, which may be absent."""
    return [] if vector is None else [int(index) for index in vector]


def _tensor(model: Any, item: Any) -> LiteTensor:
    scales = item.quantization.scale if item.quantization is not None else None
    return LiteTensor(
        name=text(item.name),
        dtype=names_of("TensorType")[item.type].lower(),
        shape=tuple(indices(item.shape)),
        scale=float(scales[0]) if scales is not None and len(scales) == 1 else None,
        constant=is_constant(model, item),
    )


def foreign_ops(content: bytes) -> tuple[str, ...]:
    """Custom and Flex (TensorFlow Select) operators, which a plain TFLite runtime does not have."""
    counts = Counter(op.custom or op.op for op in read_ops(content) if op.op == "CUSTOM" or op.custom)
    return tuple(sorted(counts))


def output_names(content: bytes) -> tuple[str, ...]:
    """Names of the main graph's outputs."""
    graph = unpack(content).subgraphs[0]
    return tuple(text(graph.tensors[index].name) for index in indices(graph.outputs))


def input_shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    """Name of each input -> its shape."""
    model = unpack(content)
    graph = model.subgraphs[0]
    tensors = [graph.tensors[index] for index in indices(graph.inputs)]
    return {text(item.name): tuple(indices(item.shape)) for item in tensors}


def output_steps(content: bytes) -> dict[str, float]:
    """Quantization step of each main-graph output that is dequantized from integers at the end."""
    model = unpack(content)
    graph = model.subgraphs[0]
    names = {text(graph.tensors[index].name) for index in indices(graph.outputs)}
    return {
        op.outputs[0].name: op.inputs[0].scale
        for op in _graph_ops(model, graph)
        if op.op == "DEQUANTIZE" and op.outputs[0].name in names and op.inputs[0].scale is not None
    }


def normalise(content: bytes) -> bytes:
    """`content` with inputs and outputs named as its signature names them.

    The converter names tensors ``serving_default_x:0`` and ``StatefulPartitionedCall:1``; runtimes without
    signature support, and people, see only these.

    Raises:
        UnsupportedError: one tensor is two outputs, or input and output, and so cannot have both names.
    """
    model = unpack(content)
    (signature,) = model.signatureDefs
    graph = model.subgraphs[signature.subgraphIndex]
    _refuse_shared(signature)
    renamed = {int(item.tensorIndex): item.name for item in (*signature.inputs, *signature.outputs)}
    kept = {text(tensor.name) for index, tensor in enumerate(graph.tensors) if index not in renamed}
    for index, name in renamed.items():
        graph.tensors[index].name = name
    for index, tensor in enumerate(graph.tensors):
        if index not in renamed and text(tensor.name) in {text(name) for name in renamed.values()} & kept:
            tensor.name = f"{text(tensor.name)}/inner"
    return pack(model)


def rename_interface(content: bytes, names: Mapping[str, str]) -> bytes:
    """`content` with the inputs and outputs of its signature called by `names` (old -> new)."""
    model = unpack(content)
    (signature,) = model.signatureDefs
    for item in (*signature.inputs, *signature.outputs):
        item.name = names[text(item.name)]
    return pack(model)


def _refuse_shared(signature: Any) -> None:
    owner: dict[int, str] = {}
    for item in (*signature.inputs, *signature.outputs):
        index, name = int(item.tensorIndex), text(item.name)
        if index in owner:
            raise UnsupportedError(
                f'"{owner[index]}" and "{name}" are one and the same tensor in TFLite',
                where="tflite",
                hint="return each tensor once, and do not return an input unchanged",
            )
        owner[index] = name
