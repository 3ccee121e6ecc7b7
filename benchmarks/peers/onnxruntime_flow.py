"""ONNX Runtime's own quantizer, hand-tuned: pre-process, then QDQ with U8 activations and per-channel S8 weights.

python -m benchmarks.peers.onnxruntime_flow SUBJECT OUT      # writes OUT/model.onnx; float32 in and out
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.onnx_export import INPUT, export
from benchmarks.peers.subject import Subject, load_subject

FILE = "model.onnx"


class _Reader:
    """Calibration samples, one a call, as ONNX Runtime's calibrators ask for them."""

    def __init__(self, subject: Subject) -> None:
        self._left = iter(subject.calibration())

    def get_next(self) -> dict[str, Any] | None:
        sample = next(self._left, None)
        return None if sample is None else {INPUT: sample[None].copy()}


def build(subject: Subject, out: Path) -> None:
    """Write the quantized model."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(_Reader)
    with tempfile.TemporaryDirectory() as work:
        plain, ready = Path(work, "float.onnx"), Path(work, "ready.onnx")
        export(subject, plain)
        quant_pre_process(str(plain), str(ready))
        quantize_static(
            str(ready),
            str(out / FILE),
            _Reader(subject),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
        )


if __name__ == "__main__":
    build(load_subject(sys.argv[1]), Path(sys.argv[2]))
