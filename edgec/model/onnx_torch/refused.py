"""Ops of ONNX that can have no torch form, and why: data, which needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

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

NOT_CONVERTED = frozenset({"ImageDecoder", "MaxRoiPool"})
"""Ops of float models that edgec has no converter of."""
