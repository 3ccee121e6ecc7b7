"""ONNX models in float16, bfloat16 or float64, written anew in float32: what every backend begins with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.errors import ModelError
from edgec.model import onnx_file
from edgec.model.samples import close
from edgec.model.spec import Array, TensorSpec
from edgec.storage.temporary import lasting_folder

_FLOAT32, _FLOAT64 = 1, 11
_OTHERS = {10: "float16", 16: "bfloat16", 11: "float64"}
"""TensorProto.DataType of the floats that are converted."""
_LARGEST = 2**31 - 1
"""Bytes that one ONNX file without external data can hold."""
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_datatype", "softmax_precision"})
"""Attributes that hold an element type."""


@dataclass(frozen=True)
class InFloat32:
    """A model written anew in float32.

    Attributes:
        path: its file, which lasts as long as this process.
        floats: the types that its values had.
    """

    path: Path
    floats: tuple[str, ...]

    @property
    def note(self) -> str:
        """The note for the report."""
        return f"the model's {' and '.join(self.floats)} values were converted to float32"

    def restated(self, spec: TensorSpec) -> TensorSpec:
        """An input spec that was stated for the original."""
        return spec.model_copy(update={"dtype": "float32"}) if spec.dtype in self.floats else spec

    def check_against(
        self, original: Path, specs: Sequence[TensorSpec], samples: Sequence[tuple[Sequence[Array], Sequence[Array]]]
    ) -> None:
        """Compare with the user's file, where it is in float64: a wider type than 16 bits loses nothing.

        Args:
            original: the user's file.
            specs: of this model's inputs.
            samples: pairs of inputs and this model's outputs.

        Raises:
            ModelError: float32 is not precise enough.
        """
        if "float64" not in self.floats:
            return
        import numpy as np
        import onnx
        import torch

        inputs = onnx_file.graph_inputs(onnx.load(original, load_external_data=False))
        doubled = [item.type.tensor_type.elem_type == _FLOAT64 for item in inputs]
        for arrays, outputs in samples:
            fed = [array.astype(np.float64) if wide else array for array, wide in zip(arrays, doubled, strict=True)]
            try:
                expected = [torch.from_numpy(item) for _, item in onnx_file.run(original, specs, fed)]
            except Exception:
                return  # ONNX Runtime lacks many ops in float64
            ours = [torch.from_numpy(item).to(theirs.dtype) for item, theirs in zip(outputs, expected, strict=True)]
            if not close(ours, expected, tolerance=1e-3):
                raise ModelError(
                    "the model is in float64, and computes something else in float32",
                    where=original.name,
                    hint="edge runtimes have no float64: train or export it in float32",
                )


def in_float32(path: Path, proto: Any, name: str) -> InFloat32 | None:
    """The model in `path` in float32; None where it is so already.

    Args:
        path: its file.
        proto: its content, without external data.
        name: what the user calls it.

    Raises:
        ModelError: it is too large to be written anew.
    """
    import onnx

    floats = other_floats(proto)
    if not floats:
        return None
    whole = onnx.load(path)
    to_float32(whole)
    if whole.ByteSize() > _LARGEST:
        raise ModelError(
            f"the model is in {' and '.join(floats)}, and too large for edgec to convert",
            where=name,
            hint="export it in float32",
        )
    file = lasting_folder() / path.name
    file.write_bytes(whole.SerializeToString(deterministic=True))
    return InFloat32(file, floats)


def other_floats(proto: Any) -> tuple[str, ...]:
    """Names of the float types besides float32 that the model computes in.

    A model that uses float64 for constants and casts alone, between inputs and weights in float32, is one in float32.
    """
    dtypes = {item.data_type for item in _held(proto.graph)}
    dtypes |= {item.type.tensor_type.elem_type for item in (*proto.graph.input, *proto.graph.output)}
    named = set()
    for node in onnx_file.nodes_of(proto):
        named |= {item.i for item in node.attribute if item.name in _TYPE_ATTRIBUTES}
        named |= {item.data_type for item in _constants(node)}
    dtypes |= named - {_FLOAT64}
    return tuple(sorted(_OTHERS[code] for code in dtypes if code in _OTHERS))


def to_float32(proto: Any) -> None:
    """Write every value of another float type as float32, in place; all tensor data must be inside."""
    for graph in onnx_file.graphs_of(proto.graph):
        for tensor in graph.initializer:
            _convert(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            _retype(value.type)
    for node in onnx_file.nodes_of(proto):
        for tensor in _constants(node):
            _convert(tensor)
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _OTHERS:
                attribute.i = _FLOAT32
    for function in proto.functions:
        for value in function.value_info:
            _retype(value.type)


def _held(graph: Any) -> Iterator[Any]:
    """Weights: initializers of more than one element, here and in inner graphs."""
    for inner in onnx_file.graphs_of(graph):
        for tensor in inner.initializer:
            if math.prod(tensor.dims) > 1 or tensor.data_type != _FLOAT64:
                yield tensor


def _constants(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _convert(tensor: Any) -> None:
    if tensor.data_type not in _OTHERS:
        return
    import numpy as np
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _retype(kind: Any) -> None:
    """Replace the element type, also in sequences and optional values."""
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type in _OTHERS:
        kind.tensor_type.elem_type = _FLOAT32
    for wrapper in ("sequence_type", "optional_type"):
        if kind.HasField(wrapper):
            _retype(getattr(kind, wrapper).elem_type)
