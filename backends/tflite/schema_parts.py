"""Making tensors and operators of a ``ModelT``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, names_of
from edgec.model.spec import Array

_OPTIONS = {
    "CAST": "CastOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "UNPACK": "UnpackOptions",
    "ZEROS_LIKE": "ZerosLikeOptions",
}
"""Op -> its options in the schema, for the ops that edgec writes; RSQRT has none."""


def constant(model: Any, tensor: Any) -> Array:
    """The values of a constant tensor of floats or integers."""
    dtype = np.dtype(names_of("TensorType")[tensor.type].lower())
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype).reshape(indices(tensor.shape))


def add_constant(model: Any, name: str, array: Array) -> int:
    """Add a tensor with the values of `array` to the main graph; return its number.

    Args:
        model: object form of the flatbuffer.
        name: of the tensor.
        array: its values.
    """
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    model.buffers.append(buffer)
    kind = getattr(schema.TensorType, array.dtype.name.upper())
    return add_tensor(model, name, array.shape, kind, len(model.buffers) - 1)


def add_floats(model: Any, name: str, shape: Sequence[int]) -> int:
    """Add a float32 tensor that an op will make; return its number.

    Args:
        model: object form of the flatbuffer.
        name: of the tensor.
        shape: of the tensor.
    """
    from ai_edge_litert import schema_py_generated as schema

    return add_tensor(model, name, shape, schema.TensorType.FLOAT32, 0)


def add_tensor(model: Any, name: str, shape: Sequence[int], kind: int, buffer: int) -> int:
    """Add a tensor to the main graph; return its number.

    Args:
        model: object form of the flatbuffer.
        name: of the tensor.
        shape: of the tensor.
        kind: number of its dtype in the schema.
        buffer: number of the buffer with its values; 0: it has none.
    """
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, np.int32), kind, buffer
    tensors = model.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def operator(model: Any, kind: str, version: int, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> Any:
    """A new operator, which the caller puts into a graph; `options` are fields of its builtin options.

    Args:
        model: object form of the flatbuffer.
        kind: name in the schema's BuiltinOperator.
        version: of the op.
        inputs: numbers of tensors; -1: not given.
        outputs: numbers of tensors.
        options: fields of its builtin options.
    """
    from ai_edge_litert import schema_py_generated as schema

    made = schema.OperatorT()
    made.opcodeIndex = opcode(model, kind, version)
    made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    if kind in _OPTIONS:
        made.builtinOptions = getattr(schema, f"{_OPTIONS[kind]}T")()
        made.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[kind])
    for name, value in options.items():
        setattr(made.builtinOptions, name, value)
    return made


def opcode(model: Any, kind: str, version: int) -> int:
    """Number of the operator code, which is added where it is missing.

    Args:
        model: object form of the flatbuffer.
        kind: name in the schema's BuiltinOperator.
        version: of the op.
    """
    from ai_edge_litert import schema_py_generated as schema

    builtin = getattr(schema.BuiltinOperator, kind)
    known = [(max(code.builtinCode, code.deprecatedBuiltinCode), code.version) for code in model.operatorCodes]
    if (builtin, version) not in known:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
        code.version = version
        model.operatorCodes.append(code)
        known.append((builtin, version))
    return known.index((builtin, version))


def codes_of(weight: Array, scales: Array, axis: int, limit: float) -> Array:
    """`weight` in symmetric codes from -`limit` to `limit`, with one scale or one for each place of `axis`.

    Args:
        weight: float values.
        scales: one, or one for each place of `axis`.
        axis: of output channels.
        limit: largest code; the lowest is its negative.
    """
    spread = scales.reshape([-1 if at == axis and len(scales) > 1 else 1 for at in range(weight.ndim)])
    codes: Array = np.clip(np.rint(weight / spread), -limit, limit).astype(np.int8)
    return codes


def set_codes(model: Any, index: int, shape: Sequence[int], kind: str, scales: Array, axis: int) -> None:
    """Say that a constant holds symmetric codes of dtype `kind`, with these scales.

    Args:
        model: object form of the flatbuffer.
        index: number of the tensor.
        shape: of the tensor.
        kind: name of its dtype in the schema's TensorType.
        scales: one, or one for each place of `axis`.
        axis: of output channels.
    """
    from ai_edge_litert import schema_py_generated as schema

    tensor = model.subgraphs[0].tensors[index]
    tensor.shape = np.array(shape, np.int32)
    tensor.type = getattr(schema.TensorType, kind)
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = axis if len(scales) > 1 else 0
