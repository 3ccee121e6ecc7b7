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

_RANDOM = "its result is random, so no artifact could be checked"
_UNSIZED = "how many results it has depends on the data, and artifacts have fixed shapes"
_TEXT = "it works on text"

REFUSED: Mapping[str, str] = {
    "Bernoulli": _RANDOM,
    "Multinomial": _RANDOM,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "NonMaxSuppression": _UNSIZED,
    "RegexFullMatch": _TEXT,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": _TEXT,
}
"""Ops that can have none -> why."""
