"""Hand-made ONNX models of input ``x`` and output ``y``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.onnxruntime.graph import OnnxModel, name_nodes
from edgec.model.spec import Array, TensorSpec


def floats(*shape: int) -> Array:
    """Noise, the same each time."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array],
    shape: tuple[int, ...],
    out: tuple[int, ...] | None = None,
) -> OnnxModel:
    """A model, checked and with all shapes inferred where its output's is stated.

    Args:
        nodes: those without a name get one.
        constants: initializers.
        shape: of ``x``.
        out: of ``y``; None: it is not known.
    """
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    name_nodes(proto)
    inputs = (TensorSpec(name="x", shape=shape),)
    if out is None:
        return OnnxModel("g", proto, inputs, ())
    proto = onnx.shape_inference.infer_shapes(proto)
    onnx.checker.check_model(proto)
    return OnnxModel("g", proto, inputs, (TensorSpec(name="y", shape=out),))
