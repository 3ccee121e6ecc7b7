"""From the float model to a clean ONNX graph: exported, constants folded, shapes known, every node named."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from edgec.backends.onnxruntime.conform import drop_constant_inputs, part_outputs, rename_fused, simplify_gemms
from edgec.backends.onnxruntime.graph import MAX_BYTES, OnnxModel, name_nodes
from edgec.backends.onnxruntime.infer import with_types
from edgec.backends.onnxruntime.opset import settle_opset
from edgec.backends.onnxruntime.session import open_session
from edgec.errors import UnsupportedError
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext


def lower(model: FloatModel, ctx: PassContext) -> OnnxModel:
    """The ONNX graph of `model` (see `edgec.model.export_onnx`), prepared for quantization.

    Raises:
        TraceError: the user's code cannot be exported.
        UnsupportedError: the model is too large for one file, too old, or has what ONNX Runtime cannot run.
    """
    import onnx

    from edgec.model.export_onnx import export_onnx

    ctx.work.mkdir(parents=True, exist_ok=True)
    file = export_onnx(model, ctx.work / "exported.onnx")
    return prepare(onnx.load(str(file)), model, ctx)


def prepare(proto: Any, model: FloatModel, ctx: PassContext) -> OnnxModel:
    """Fold constants and BatchNorm, infer shapes and name nodes of an ONNX graph of `model`.

    Args:
        proto: the graph (`onnx.ModelProto`), weights inside.
        model: for name and tensor specs.
        ctx: its work folder takes the intermediate files.

    Raises:
        UnsupportedError: as for `lower`.
    """
    import onnx

    if proto.ByteSize() > MAX_BYTES:
        raise UnsupportedError(
            f"the ONNX model has {proto.ByteSize() / 1e9:.1f} GB, and one ONNX file holds at most 1.9 GB",
            where=model.name,
            hint="use another backend",
        )
    work, quantized = ctx.work, ctx.target.precision not in ("fp32", "fp16")
    proto = settle_opset(proto, work, model.name, quantized=quantized)
    drop_constant_inputs(proto)
    part_outputs(proto)
    source, folded = work / "lowered.onnx", work / "folded.onnx"
    onnx.save(proto, str(source))
    open_session(source, threads=ctx.threads, level="basic", optimized=folded)  # constants, BatchNorm, functions
    result = onnx.load(str(folded))
    rename_fused(result)
    simplify_gemms(result)
    result = with_types(result, ctx)
    name_nodes(result)
    return OnnxModel(model.name, result, model.inputs, model.outputs)


@contextlib.contextmanager
def quiet_logging() -> Iterator[None]:
    """Silence Python logging below errors: the quantization tools warn on the root logger about normal things."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
