"""Ops of ONNX that can have no torch form, and why: data, which needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

_RANDOM = "its result is random, so no artifact could be checked"
_UNSIZED = "how many results it has depends on the data, and artifacts have fixed shapes"
_TEXT = "it works on text"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("Bernoulli", "Multinomial"), _RANDOM),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _RANDOM),
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"), _TEXT),
    "NonMaxSuppression": _UNSIZED,
}
"""Ops that can have none -> why."""

NOT_CONVERTED = frozenset({"ImageDecoder", "MaxRoiPool"})
"""Ops of float models that edgec has no converter of."""
