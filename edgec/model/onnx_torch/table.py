"""All converters: op of ONNX's own domain -> converter."""

from __future__ import annotations

from collections.abc import Mapping

from edgec.model.onnx_torch import (
    activation,
    attention,
    control,
    convolution,
    elementwise,
    indexing,
    linear,
    loss,
    normalization,
    pooling,
    recurrent,
    reduce,
    resize,
    shape,
    signal,
    spatial,
)
from edgec.model.onnx_torch.call import Converter

_FAMILIES = (
    activation, attention, control, convolution, elementwise, indexing, linear, loss, normalization, pooling,
    recurrent, reduce, resize, shape, signal, spatial,
)  # fmt: skip

CONVERTERS: Mapping[str, Converter] = {
    name: converter for family in _FAMILIES for name, converter in family.CONVERTERS.items()
}
"""Every op that has a torch form, whatever the opset."""
