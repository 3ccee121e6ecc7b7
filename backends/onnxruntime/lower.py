"""From the float model to a clean ONNX graph: exported, constants folded, shapes known, every node named."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgec.backends.onnxruntime.graph import MAX_BYTES, OnnxModel, name_nodes, opset
from edgec.backends.onnxruntime.session import first_line, open_session
from edgec.errors import UnsupportedError
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext

MIN_OPSET = 13
"""The first opset whose QuantizeLinear knows channels."""
EXPORT_OPSET = 17


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
    constant = {item.name for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in constant]  # IR < 4 lists weights as inputs too
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    if opset(proto) < MIN_OPSET:
        proto = _upgrade(proto, model.name)
    source, prepared = ctx.work / "lowered.onnx", ctx.work / "prepared.onnx"
    onnx.save(proto, str(source))
    open_session(source, threads=ctx.threads, level="basic")  # tells why, where the pre-processing below only logs
    _pre_process(source, prepared)
    result = onnx.load(str(prepared))
    name_nodes(result)
    return OnnxModel(model.name, result, model.inputs, model.outputs)


def _upgrade(proto: Any, where: str) -> Any:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, EXPORT_OPSET)
    except Exception as exc:  # the converter raises RuntimeError and C++ exceptions alike
        raise UnsupportedError(
            f"opset {opset(proto)} cannot be converted to {EXPORT_OPSET}: {first_line(exc, Path())}",
            where=where,
            hint=f"export the model again with opset {EXPORT_OPSET}",
        ) from exc


def _pre_process(source: Path, prepared: Path) -> None:
    """ONNX Runtime's own preparation, without its symbolic shape inference where that gives up on a valid graph."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    def full() -> None:
        quant_pre_process(str(source), str(prepared))

    def without_symbolic() -> None:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)

    attempts: tuple[Callable[[], None], ...] = (full, without_symbolic)
    with quiet_logging():
        for attempt in attempts:
            try:
                attempt()
            except Exception as exc:  # symbolic shape inference raises bare Exception and AssertionError
                prepared.unlink(missing_ok=True)
                problem = exc
            else:
                return
    raise UnsupportedError(
        f"ONNX Runtime cannot infer the model's shapes: {first_line(problem, source)}", where=source.name
    ) from problem


@contextlib.contextmanager
def quiet_logging() -> Iterator[None]:
    """Silence Python logging below errors: the quantization tools warn on the root logger about normal things."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
