"""What TensorFlow's calibrator does with a float flatbuffer. Runs in the compile worker only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgec.backends.interface import TensorBinding
from edgec.backends.tflite.layout import to_artifact
from edgec.dataset.spool import Spool
from edgec.errors import UnsupportedError
from edgec.model.spec import Array


def calibrate(content: bytes, inputs: Sequence[TensorBinding], calibration: Spool) -> bytes:
    """`content` with the range that each activation had (its lowest and highest value), subgraphs included.

    Args:
        content: a float flatbuffer.
        inputs: how samples are fed to it.
        calibration: samples.
    """
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    return bytes(Calibrator(content).calibrate(_feed(inputs, calibration)))


def quantize_int16(content: bytes, inputs: Sequence[TensorBinding], calibration: Spool, *, per_channel: bool) -> bytes:
    """`content` with int8 weights and int16 activations; what has no such kernel stays float.

    Args:
        content: a calibrated float flatbuffer.
        inputs: how samples are fed to it.
        calibration: samples.
        per_channel: one scale for each output channel of a weight.

    Raises:
        UnsupportedError: the quantizer fails.
    """
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    try:
        return bytes(
            Calibrator(content).calibrate_and_quantize(
                _feed(inputs, calibration),
                tf.float32,
                tf.float32,
                allow_float=True,
                activations_type=tf.int16,
                bias_type=tf.int64,
                disable_per_channel=not per_channel,
                disable_per_channel_quantization_for_dense_layers=not per_channel,
            )
        )
    except Exception as exc:
        message = " ".join(str(exc).split())[:300]
        raise UnsupportedError(f"TensorFlow's quantizer to int16 fails: {message}", where="tflite") from exc


def _feed(inputs: Sequence[TensorBinding], calibration: Spool) -> Callable[[], Iterator[dict[str, Array]]]:
    def samples() -> Iterator[dict[str, Array]]:
        for sample in calibration:
            yield {item.artifact_name: to_artifact(sample[item.name], item.permutation) for item in inputs}

    return samples
