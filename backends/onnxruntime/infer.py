"""dtype and shape of every tensor of a graph."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgec.backends.onnxruntime.graph import tensor_types
from edgec.backends.onnxruntime.session import open_session
from edgec.passes.contract import PassContext

if TYPE_CHECKING:
    import onnx


_ELEMENT = re.compile(r"tensor\((\w+)\)")
"""How ONNX Runtime writes a tensor's dtype."""


def with_types(proto: onnx.ModelProto, ctx: PassContext) -> onnx.ModelProto:
    """`proto` with its tensors' types, as ONNX infers them and, where that leaves some open, as ONNX Runtime does.

    (ONNX Runtime's symbolic shape inference, which its pre-processing for quantization begins with, gives up on valid
    graphs, and then leaves files in the current folder.)
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    known = tensor_types(inferred)
    made = [tensor for node in inferred.graph.node for tensor in node.output if tensor]
    if unknown := [tensor for tensor in made if tensor not in known or known[tensor].shape is None]:
        _ask_runtime(inferred, unknown, ctx)
    return inferred


def _ask_runtime(proto: onnx.ModelProto, tensors: list[str], ctx: PassContext) -> None:
    """Add the types of `tensors`, in place: the runtime reports those of its outputs."""
    import onnx
    from onnx import TensorProto, helper

    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    own = {item.name for item in proto.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors if tensor not in own)
    file = ctx.work / "types.onnx"
    onnx.save(probe, str(file))
    session = open_session(file, threads=ctx.threads, level="basic")
    outputs = {item.name: item for item in session.get_outputs()}
    kept = [item for item in proto.graph.value_info if item.name not in outputs]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    for tensor in tensors:
        name = _ELEMENT.fullmatch(outputs[tensor].type)
        if tensor in own or name is None:  # a sequence, an optional
            continue
        kind = TensorProto.DataType.Value(name[1].upper())
        shape = [dim if isinstance(dim, int) else None for dim in outputs[tensor].shape]
        proto.graph.value_info.append(helper.make_tensor_value_info(tensor, kind, shape or None))
