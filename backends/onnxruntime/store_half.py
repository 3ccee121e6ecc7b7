"""Half precision as a storage format: weights in fp16 on disk, all arithmetic in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgec.backends.onnxruntime.graph import OnnxModel, copy, name_nodes
from edgec.errors import UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.quant.half import WHY_SPARED, spared, to_half

if TYPE_CHECKING:
    import onnx

    from edgec.model.spec import Array

FP16_MAX = 65504.0
WEIGHT_ELEMENTS = 1024
"""From here on also a list of values counts as a weight; biases and constants of formulas are smaller."""
_WORST = 2.0**-10
"""Error beyond which a tensor is not stored in fp16, relative to its norm; rounding alone stays below 2^-11."""


@dataclass(frozen=True)
class StoreHalfWeights(Pass[OnnxModel]):
    """Store weights in fp16, with a cast to float32 that the runtime computes once, when it loads the model.

    For devices without fp16 arithmetic. Converted throughout, a graph would be cast to float32 and back around every
    op there, and values between ops would be rounded, or overflow, for nothing.
    """

    name: ClassVar[str] = "store-half-weights"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        coverage = [
            Coverage(
                subject="arithmetic",
                state="storage only",
                reason=f"{ctx.target.device.name} has no fp16 arithmetic: fp16 values are computed in float32",
            )
        ]
        proto, count, left = store_half(model)
        if not count:
            raise UnsupportedError("no weight of the model can be fp16", where=f"pass {self.name}")
        return PassResult(
            OnnxModel(model.name, proto, model.inputs, model.outputs),
            f"{count} weights stored in fp16",
            [*coverage, *left],
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        from onnx import TensorProto

        stored = any(item.data_type == TensorProto.FLOAT16 for item in model.proto.graph.initializer)
        return None if stored else "no weight is fp16"


def store_half(model: OnnxModel) -> tuple[onnx.ModelProto, int, list[Coverage]]:
    """A graph with its weights in fp16, how many these are, and which stay in float32 and why."""
    from onnx import TensorProto, helper, numpy_helper

    proto = copy(model)
    floats = [item for item in proto.graph.initializer if item.data_type == TensorProto.FLOAT]
    weights = [item for item in floats if len(item.dims) > 1 or np.prod(item.dims) >= WEIGHT_ELEMENTS]
    small = spared({item.name: int(np.prod(item.dims)) for item in weights})
    channels = _channel_axes(proto.graph)
    casts, left = [], []
    if small:
        left.append(Coverage(subject=f"{len(small)} weights", state="float32", reason=WHY_SPARED))
    for item in weights:
        if item.name in small:
            continue
        value = numpy_helper.to_array(item)
        if reason := _why_not(value):
            left.append(Coverage(subject=item.name, state="float32", reason=reason))
            continue
        name = item.name
        item.CopyFrom(numpy_helper.from_array(to_half(value, channels.get(name)), f"{name}_half"))
        casts.append(helper.make_node("Cast", [item.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *(type(node).FromString(node.SerializeToString()) for node in proto.graph.node)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    name_nodes(proto)
    return proto, len(casts), left


def _channel_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """Weight -> its axis of output channels."""
    axes = {}
    for node in graph.node:
        if len(node.input) < 2:
            continue
        if node.op_type == "Conv":
            axes[node.input[1]] = 0
        elif node.op_type == "MatMul":
            axes[node.input[1]] = -1
        elif node.op_type == "Gemm":
            transposed = any(item.name == "transB" and item.i for item in node.attribute)
            axes[node.input[1]] = 0 if transposed else 1
    return axes


def _why_not(value: Array) -> str:
    if not value.size:
        return "it is empty"
    if not (np.abs(value) <= FP16_MAX).all():
        return f"a value is beyond fp16's {FP16_MAX:.0f}"
    error = np.linalg.norm(value - value.astype(np.float16).astype(np.float32))
    if error > _WORST * np.linalg.norm(value):
        return "its values are so small that fp16 loses their precision"
    return ""
