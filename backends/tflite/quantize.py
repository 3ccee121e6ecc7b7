"""SavedModel to flatbuffer, in each precision, by TensorFlow's converter. Runs in the compile worker only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgec.backend.protocol import OpRecord, TensorBinding
from edgec.backends.tflite.audit import Operand, audit_op
from edgec.backends.tflite.flatbuffer import foreign_ops, normalise, read_ops
from edgec.backends.tflite.layout import to_artifact
from edgec.dataset.spool import Spool
from edgec.errors import UnsupportedError
from edgec.model.spec import Array
from edgec.target.spec import Precision


@dataclass(frozen=True)
class Scheme:
    """What the converter is asked for.

    Attributes:
        mode: ``none`` keeps float32.
        per_channel: granularity of convolution weights.
        per_channel_dense: granularity of FULLY_CONNECTED weights. In ``static`` both runtimes run per-channel ones;
            in ``dynamic`` tflite-runtime 2.14 refuses them.
    """

    mode: Literal["none", "half", "static", "dynamic"]
    per_channel: bool = True
    per_channel_dense: bool = True


def to_flatbuffer(
    saved_model: Path,
    scheme: Scheme,
    inputs: Sequence[TensorBinding] = (),
    calibration: Spool | None = None,
) -> bytes:
    """Convert a SavedModel; static int8 falls back to float for ops that have no int8 kernel.

    Args:
        saved_model: folder with signature ``serving_default``.
        scheme: the precision.
        inputs: how calibration samples are fed; for ``static``.
        calibration: representative dataset, streamed; for ``static``.

    Raises:
        UnsupportedError: an op is neither a TFLite builtin nor can be expressed by them.
    """
    import tensorflow as tf

    ops = tf.lite.OpsSet
    attempts = [[ops.TFLITE_BUILTINS]]
    if scheme.mode == "static":
        attempts = [[ops.TFLITE_BUILTINS_INT8], [ops.TFLITE_BUILTINS_INT8, ops.TFLITE_BUILTINS]]
    for number, supported in enumerate(attempts):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
        converter.target_spec.supported_ops = supported
        _configure(converter, scheme, inputs, calibration)
        try:
            content = converter.convert()
            break
        except Exception as exc:
            if number + 1 == len(attempts):
                raise UnsupportedError(
                    f"TensorFlow Lite cannot express this model: {_explain(exc)}",
                    where="tflite",
                    hint="replace the op in the model, or build this target with the onnxruntime backend",
                ) from exc
    content = normalise(content)
    if foreign := foreign_ops(content):
        raise UnsupportedError(
            f"the model needs custom ops that no TFLite runtime has: {', '.join(foreign)}", where="tflite"
        )
    return content


def _configure(converter: Any, scheme: Scheme, inputs: Sequence[TensorBinding], calibration: Spool | None) -> None:
    import tensorflow as tf

    if scheme.mode == "none":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme.mode == "half":
        converter.target_spec.supported_types = [tf.float16]
        return
    converter._experimental_disable_per_channel = not scheme.per_channel
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not scheme.per_channel_dense
    if scheme.mode == "static":
        # LiteRT 2.1's XNNPACK computes int8 BATCH_MATMUL wrongly (17 dB where tflite-runtime has 36);
        # unfolded into FULLY_CONNECTED, both runtimes are right.
        converter.unfold_batchmatmul = True
        assert calibration is not None, "the plan gives static int8 its calibration set"

        def samples() -> Iterator[dict[str, Array]]:
            for sample in calibration:
                yield {item.artifact_name: to_artifact(sample[item.name], item.permutation) for item in inputs}

        converter.representative_dataset = samples


def _explain(exc: Exception) -> str:
    """The converter's reason in one line: the ops it names, else its first telling line."""
    text = str(exc)
    if ops := sorted(
        set(re.findall(r"\btf\.(\w+)\(", text)) | set(re.findall(r"(?:TF Select|Custom) ops: (.+)", text))
    ):
        return f"no builtin form of {', '.join(ops)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "not supported" in line]
    return (telling or lines or [type(exc).__name__])[0][:300]


def audit_content(content: bytes, precision: Precision) -> tuple[OpRecord, ...]:
    """The dtype audit of a flatbuffer that was not loaded yet."""
    return tuple(
        audit_op(
            item.op,
            item.outputs[0].name if item.outputs else item.op,
            [Operand(tensor.dtype, tensor.shape, tensor.constant) for tensor in item.inputs],
            item.outputs[0].dtype if item.outputs else "",
            precision,
        )
        for item in read_ops(content)
    )
