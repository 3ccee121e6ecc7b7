"""Making a flatbuffer fit to be an artifact, and the dtype audit of one that was not loaded yet."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.backends.interface import OpRecord
from edgec.backends.tflite.audit import Operand, audit_op, explain_chosen
from edgec.backends.tflite.flatbuffer import LiteOp, foreign_ops, normalise, output_names, read_ops
from edgec.errors import UnsupportedError
from edgec.passes.coverage import Coverage
from edgec.target.spec import Precision


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


def audit_content(content: bytes, precision: Precision, kept: Sequence[Coverage] = ()) -> tuple[OpRecord, ...]:
    """The dtype audit of a flatbuffer that was not loaded yet; `kept`: what a recipe leaves in float.

    Args:
        content: the flatbuffer.
        precision: of the target.
        kept: what a recipe leaves in float.
    """
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
