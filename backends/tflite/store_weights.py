"""Weights in 8 or 4 bits, arithmetic in float32: an edit of the float program.

Each weight becomes codes, a DEQUANTIZE op and, where blocks of it have scales of their own, a RESHAPE: ops that every
TFLite runtime has, with the meaning they always had. A constant is dequantized once, when the program is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.model.spec import Array
from edgec.quant.recipe import WeightGrid
from edgec.quant.weights import mse_weight_scales, weight_scales

_AXES = {"CONV_2D": 0, "CONV_3D": 4, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
"""Op -> axis of its weight that counts output channels; the weight is its second input."""
_VERSIONS = {8: 5, 4: 6}
"""Bits -> version of DEQUANTIZE that has such codes with a scale per channel."""


@dataclass(frozen=True)
class Storage:
    """How weights are stored.

    Attributes:
        bits: 8 or 4; codes go from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        per_channel: a scale for each output channel, or one.
        block: 4 bits only: weights of one output channel that share a scale, where their number is a multiple of it.
    """

    bits: Literal[8, 4]
    per_channel: bool = True
    block: int | None = None

    @property
    def grid(self) -> WeightGrid:
        """Of one scale."""
        return WeightGrid(limit=2 ** (self.bits - 1) - 1, per_channel=self.per_channel)


def store_weights(model: Any, storage: Storage, kept: Collection[int]) -> tuple[int, int]:
    """Put the weights of all products into codes, in place.

    Args:
        model: float program (a ``ModelT``).
        storage: how.
        kept: places of operators that keep their float weights.

    Returns:
        How many weights are stored in codes, and how many of these in blocks.
    """
    graph = model.subgraphs[0]
    stored: dict[int, int] = {}
    ops: list[Any] = []
    blocks = 0
    for place, operator in enumerate(list(graph.operators)):
        axis = _AXES.get(kind_of(model, operator))
        if axis is None or place in kept:
            continue
        index = int(operator.inputs[1])
        if index not in stored:
            tensor = graph.tensors[index]
            if not is_constant(model, tensor) or names_of("TensorType")[tensor.type] != "FLOAT32":
                continue
            stored[index], made = _store(model, index, axis, storage)
            ops += made
            blocks += len(made) > 1
        operator.inputs = [*operator.inputs[:1], stored[index], *operator.inputs[2:]]
    graph.operators = [*ops, *graph.operators]
    return len(stored), blocks


def _store(model: Any, index: int, axis: int, storage: Storage) -> tuple[int, list[Any]]:
    """The tensor that stands for weight `index` from now on, and the ops that make it."""
    source = model.subgraphs[0].tensors[index]
    shape = tuple(indices(source.shape))
    weight = np.frombuffer(bytes(model.buffers[source.buffer].data), np.float32).reshape(shape)
    channel = prod(shape) // shape[axis]
    blocked = bool(storage.block) and storage.per_channel and axis == 0 and channel % (storage.block or 1) == 0
    name = text(source.name)
    if blocked and channel > (storage.block or 0):
        rows = weight.reshape(-1, storage.block or 1)
        scales = block_scales(weight, rows, storage)
        codes = _tensor(model, f"{name}/codes", rows, scales, 0, storage)
        values = _float_tensor(model, f"{name}/blocks", rows.shape)
        result = _float_tensor(model, f"{name}/stored", shape)
        size = _constant(model, f"{name}/shape", np.array(shape, np.int32))
        return result, [
            _dequantize(model, codes, values, storage),
            _operator(model, "RESHAPE", 1, [values, size], result),
        ]
    fit = weight_scales if storage.bits == 8 else mse_weight_scales
    codes = _tensor(model, f"{name}/codes", weight, fit(weight, storage.grid, axis), axis, storage)
    result = _float_tensor(model, f"{name}/stored", shape)
    return result, [_dequantize(model, codes, result, storage)]


def block_scales(weight: Array, rows: Array, storage: Storage) -> Array:
    """For each block the scale of least error: its own, or its channel's, on whose grid trained weights may lie."""
    own = mse_weight_scales(rows, storage.grid, 0)
    channel = np.repeat(weight_scales(weight, storage.grid, 0), len(rows) // len(weight))

    def errors(scales: Array) -> Array:
        codes = np.clip(np.rint(rows / scales[:, None]), -storage.grid.limit, storage.grid.limit)
        found: Array = np.square(codes * scales[:, None] - rows, dtype=np.float64).sum(axis=1)
        return found

    better: Array = np.where(errors(channel) < errors(own), channel, own).astype(np.float32)
    return better


def _tensor(model: Any, name: str, weight: Array, scales: Array, axis: int, storage: Storage) -> int:
    """A constant of codes."""
    from ai_edge_litert import schema_py_generated as schema

    spread = scales.reshape([-1 if at == axis and len(scales) > 1 else 1 for at in range(weight.ndim)])
    codes = np.clip(np.rint(weight / spread), -storage.grid.limit, storage.grid.limit).astype(np.int8)
    index = _constant(model, name, codes if storage.bits == 8 else packed(codes))
    tensor = model.subgraphs[0].tensors[index]
    tensor.shape = np.array(weight.shape, np.int32)
    tensor.type = schema.TensorType.INT8 if storage.bits == 8 else schema.TensorType.INT4
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = axis if len(scales) > 1 else 0
    return index


def packed(codes: Array) -> Array:
    """Two 4-bit codes a byte, the first in the low half."""
    flat = codes.reshape(-1)
    flat = np.append(flat, np.zeros(flat.size % 2, np.int8))
    packed: Array = (flat[0::2] & 15 | (flat[1::2] & 15) << 4).astype(np.uint8)
    return packed


def _constant(model: Any, name: str, array: Array) -> int:
    from ai_edge_litert import schema_py_generated as schema

    types = {"int32": schema.TensorType.INT32, "int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8}
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return _add(model, name, array.shape, types[array.dtype.name], len(model.buffers) - 1)


def _float_tensor(model: Any, name: str, shape: tuple[int, ...]) -> int:
    from ai_edge_litert import schema_py_generated as schema

    return _add(model, name, shape, schema.TensorType.FLOAT32, 0)


def _add(model: Any, name: str, shape: tuple[int, ...], kind: int, buffer: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, np.int32), kind, buffer
    tensors = model.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def _dequantize(model: Any, codes: int, result: int, storage: Storage) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    operator = _operator(model, "DEQUANTIZE", _VERSIONS[storage.bits], [codes], result)
    operator.builtinOptions = schema.DequantizeOptionsT()
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    return operator


def _operator(model: Any, kind: str, version: int, inputs: list[int], output: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    builtin = getattr(schema.BuiltinOperator, kind)
    known = [(max(code.builtinCode, code.deprecatedBuiltinCode), code.version) for code in model.operatorCodes]
    if (builtin, version) not in known:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin  # both ops are older than the wider code
        code.version = version
        model.operatorCodes.append(code)
        known.append((builtin, version))
    operator = schema.OperatorT()
    operator.opcodeIndex = known.index((builtin, version))
    operator.inputs, operator.outputs = inputs, [output]
    return operator
