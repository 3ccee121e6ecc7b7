"""onnx2tf and TensorFlow's converter: full int8, per channel, float32 in and out (so that both sides quantize).

python -m benchmarks.peers.tflite_flow SUBJECT OUT      # writes OUT/model.tflite; NHWC input
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.onnx_export import export
from benchmarks.peers.subject import Subject, load_subject

FILE = "model.tflite"


def build(subject: Subject, out: Path) -> None:
    """Write the quantized model."""
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        export(subject, Path("float.onnx"))
        _to_saved_model("float.onnx", "saved_model")
        (out / FILE).write_bytes(_quantize("saved_model", subject))


def _to_saved_model(source: str, folder: str) -> None:
    import onnx2tf

    onnx2tf.convert(
        input_onnx_file_path=source,
        output_folder_path=folder,
        tflite_backend="tf_converter",
        output_signaturedefs=True,
        non_verbose=True,
    )


def _quantize(folder: str, subject: Subject) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)

    def samples() -> Iterator[list[Any]]:
        for sample in subject.calibration():
            yield [np.ascontiguousarray(sample.transpose(1, 2, 0))[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


if __name__ == "__main__":
    build(load_subject(sys.argv[1]), Path(sys.argv[2]).absolute())
