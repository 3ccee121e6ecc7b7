"""Half precision: weights and tensors in fp16, inputs and outputs as the float model has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgec.backends.onnxruntime.graph import OnnxModel, all_nodes, copy, name_nodes
from edgec.backends.onnxruntime.lower import quiet_logging
from edgec.errors import UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage

if TYPE_CHECKING:
    import onnx

FP16_MAX = 65504.0


@dataclass(frozen=True)
class ConvertToFloat16(Pass[OnnxModel]):
    """Convert the graph to fp16 with casts at its inputs and outputs; ops without an fp16 form keep fp32."""

    name: ClassVar[str] = "convert-to-float16"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        import warnings

        from onnxruntime.transformers.float16 import convert_float_to_float16

        coverage = _overflows(model.proto)
        with quiet_logging(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one warning a truncated tensor; `coverage` records those that matter
            proto = convert_float_to_float16(copy(model), keep_io_types=True)
        name_nodes(proto)
        count = _half_constants(proto)
        if not count:
            raise UnsupportedError("no constant of the model can be fp16", where=f"pass {self.name}")
        return PassResult(
            OnnxModel(model.name, proto, model.inputs, model.outputs), f"{count} constants to fp16", coverage
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None if _half_constants(model.proto) else "no constant is fp16"


def _half_constants(proto: onnx.ModelProto) -> int:
    from onnx import TensorProto

    tensors = [*proto.graph.initializer]
    tensors += [item.t for node in all_nodes(proto) if node.op_type == "Constant" for item in node.attribute]
    return sum(1 for item in tensors if item.data_type == TensorProto.FLOAT16)


def _overflows(proto: onnx.ModelProto) -> list[Coverage]:
    """Constants beyond fp16's range, which the conversion clamps (masks of -1e9 stay large enough to work)."""
    from onnx import TensorProto, numpy_helper

    return [
        Coverage(subject=item.name, state="clamped", reason=f"a value beyond fp16's {FP16_MAX:.0f} is clamped to it")
        for item in proto.graph.initializer
        if item.data_type == TensorProto.FLOAT and (np.abs(numpy_helper.to_array(item)) > FP16_MAX).any()
    ]
