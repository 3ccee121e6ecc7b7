"""The TFLite backend's own model: a flatbuffer, the float program it came from, and how to feed it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgec.backends.interface import TensorBinding
from edgec.frozen import canonical_json
from edgec.passes.coverage import Coverage

if TYPE_CHECKING:
    from edgec.backends.tflite.quantizable import Quantizable
    from edgec.quant.statistics import TensorStatistics

Arithmetic = Literal["float32", "float16-weights", "int8", "int16", "int8-dynamic", "int8-weights", "int4-weights"]


@dataclass(frozen=True)
class LiteModel:
    """One TFLite program.

    Attributes:
        content: the flatbuffer, with tensor names normalised.
        inputs: bindings in the order of the float model; `artifact_name` names both the tensor and the
            signature's key.
        outputs: likewise.
        arithmetic: how `content` computes.
        lowering: records of the conversion to TFLite, for every precision.
        coverage: what `content` does other than asked.
        quantizable: what quantization by layers starts from; None for other precisions.
        statistics: of its activations, by the number of the tensor; None before calibration.
    """

    content: bytes
    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    arithmetic: Arithmetic = "float32"
    lowering: tuple[Coverage, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    quantizable: Quantizable | None = None
    statistics: Mapping[int, TensorStatistics] | None = None

    def with_content(self, content: bytes, arithmetic: Arithmetic, coverage: tuple[Coverage, ...] = ()) -> LiteModel:
        """A copy that holds another flatbuffer of the same function.

        Args:
            content: the flatbuffer.
            arithmetic: what it computes in.
            coverage: what was recorded on the way to it.
        """
        return replace(self, content=content, arithmetic=arithmetic, coverage=coverage)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the flatbuffer, its bindings, and what quantization starts from."""
        digest = hashlib.sha256(self.content)
        bindings = [item.model_dump(mode="json") for item in (*self.inputs, *self.outputs)]
        digest.update(canonical_json(bindings).encode())
        if self.quantizable is not None:
            digest.update(hashlib.sha256(self.quantizable.content).digest())
        for index, statistics in sorted((self.statistics or {}).items()):
            digest.update(f"{index} {statistics.samples}".encode())
            digest.update(_digest(statistics))
        return digest.hexdigest()


def _digest(statistics: TensorStatistics) -> bytes:
    arrays = [statistics.lows, statistics.highs, statistics.average_lows, statistics.average_highs]
    if (histograms := statistics.histograms) is not None:
        arrays += [histograms.counts, histograms.zeros, histograms.exponents]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).digest()
