"""SavedModel to flatbuffer, in each precision, by TensorFlow's converter. Runs in the compile worker only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgec.backend.protocol import OpRecord, TensorBinding
from edgec.backends.tflite.audit import Operand, audit_op, explain_chosen
from edgec.backends.tflite.flatbuffer import LiteOp, foreign_ops, normalise, output_names, read_ops
from edgec.backends.tflite.layout import to_artifact
from edgec.errors import InternalError, UnsupportedError
from edgec.model.spec import Array, Tensors
from edgec.passes.contract import Coverage
from edgec.target.spec import Precision


@dataclass(frozen=True)
class Scheme:
    """What the converter is asked for.

    Attributes:
        mode: ``none`` keeps float32; ``calibrate`` too, and adds the range that each activation had; ``static-16``
            has int16 activations.
        per_channel: granularity of convolution weights.
        per_channel_dense: granularity of FULLY_CONNECTED weights. In ``static-16`` both runtimes run per-channel
            ones; in ``dynamic`` tflite-runtime 2.14 refuses them.
    """

    mode: Literal["none", "half", "calibrate", "static-16", "dynamic"]
    per_channel: bool = True
    per_channel_dense: bool = True


def to_flatbuffer(
    saved_model: Path,
    scheme: Scheme,
    inputs: Sequence[TensorBinding] = (),
    calibration: Iterable[Tensors] | None = None,
) -> bytes:
    """`convert`, made fit to be an artifact: tensors have their names, and there are builtin ops only.

    Raises:
        UnsupportedError: an op is neither a TFLite builtin nor can be expressed by them.
    """
    return finish(convert(saved_model, scheme, inputs, calibration))


def finish(content: bytes) -> bytes:
    """What the converter made as an artifact.

    Raises:
        UnsupportedError: it has custom ops.
    """
    content = normalise(content)
    if foreign := foreign_ops(content):
        raise UnsupportedError(
            f"the model needs custom ops that no TFLite runtime has: {', '.join(foreign)}", where="tflite"
        )
    return content


def convert(
    saved_model: Path,
    scheme: Scheme,
    inputs: Sequence[TensorBinding] = (),
    calibration: Iterable[Tensors] | None = None,
) -> bytes:
    """Convert a SavedModel; what has no integer kernel stays in float.

    Args:
        saved_model: folder with signature ``serving_default``.
        scheme: the precision.
        inputs: how calibration samples are fed; for ``calibrate`` and ``static-16``.
        calibration: representative samples, streamed; likewise.

    Raises:
        UnsupportedError: an op is neither a TFLite builtin nor can be expressed by them.
    """
    import tensorflow as tf

    ops = tf.lite.OpsSet
    attempts = [[ops.TFLITE_BUILTINS]]
    if scheme.mode == "calibrate":
        attempts = [[ops.TFLITE_BUILTINS_INT8], [ops.TFLITE_BUILTINS_INT8, ops.TFLITE_BUILTINS]]
    if scheme.mode == "static-16":
        wide = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        attempts = [[wide, ops.TFLITE_BUILTINS]]
    for number, supported in enumerate(attempts):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
        converter.target_spec.supported_ops = supported
        _configure(converter, scheme, inputs, calibration)
        try:
            return bytes(converter.convert())
        except Exception as exc:
            if number + 1 == len(attempts):
                raise UnsupportedError(
                    f"TensorFlow Lite cannot express this model: {_explain(exc)}",
                    where="tflite",
                    hint="replace the op in the model, or build this target with the onnxruntime backend",
                ) from exc
    raise InternalError("the converter was not called", where="tflite")


def _configure(
    converter: Any, scheme: Scheme, inputs: Sequence[TensorBinding], calibration: Iterable[Tensors] | None
) -> None:
    import tensorflow as tf

    if scheme.mode == "none":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme.mode == "half":
        converter.target_spec.supported_types = [tf.float16]
        return
    converter._experimental_disable_per_channel = not scheme.per_channel
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not scheme.per_channel_dense
    if scheme.mode in ("calibrate", "static-16"):
        # LiteRT 2.1's XNNPACK computes int8 BATCH_MATMUL wrongly (17 dB where tflite-runtime has 36);
        # unfolded into FULLY_CONNECTED, both runtimes are right.
        converter.unfold_batchmatmul = True
        converter._experimental_calibrate_only = scheme.mode == "calibrate"
        assert calibration is not None, "static quantization has calibration samples"

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


def audit_content(content: bytes, precision: Precision, kept: Sequence[Coverage] = ()) -> tuple[OpRecord, ...]:
    """The dtype audit of a flatbuffer that was not loaded yet; `kept`: what a recipe leaves in float."""
    records = [audit(item, precision) for item in read_ops(content)]
    return tuple(explain_chosen(records, kept, output_names(content)))


def audit(item: LiteOp, precision: Precision) -> OpRecord:
    """The dtype audit of one of its operators."""
    return audit_op(
        item.op,
        item.outputs[0].name if item.outputs else item.op,
        [Operand(tensor.dtype, tensor.shape, tensor.constant, tensor.stored) for tensor in item.inputs],
        item.outputs[0].dtype if item.outputs else "",
        precision,
    )
