"""The artifact: stable bytes on disk, how to feed them, and what of them stayed in float."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.backends.interface import Artifact, Format, OpRecord, TensorBinding
from edgec.backends.onnxruntime.audit import executed_ops
from edgec.backends.onnxruntime.capability import INTEGER_PRODUCTS, saturates
from edgec.backends.onnxruntime.graph import OnnxModel, canonical_bytes, constants, input_names, output_names, producers
from edgec.backends.onnxruntime.layers import find_layers
from edgec.errors import StorageError, UnsupportedError
from edgec.model.spec import TensorSpec
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage, CoverageState

if TYPE_CHECKING:
    import onnx

FILE = "model.onnx"
_FLOATS: dict[str, CoverageState] = {"float16": "float16", "float64": "float64"}
"""States of ops that compute in another float dtype than float32."""
FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    media_type="application/vnd.edgec.model.onnx",
    runner=Path(__file__).with_name("run_onnx.py"),
)


def emit(model: OnnxModel, ctx: PassContext, out: Path) -> Artifact:
    """Write ``model.onnx`` into folder `out`.

    Args:
        model: after all passes.
        ctx: the target and its settings.
        out: folder to write to; made if it is not there.

    Raises:
        UnsupportedError: the runtime refuses it, or executes nothing of an int8 target in int8.
        StorageError: the file cannot be written.
    """
    data = canonical_bytes(model, shapes=False)
    file = out / FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(file)) from exc
    precision = ctx.target.precision
    ops = executed_ops(file, precision, model.kept_float)
    if precision in ("int8", "int8-dynamic") and not any(op.op in INTEGER_PRODUCTS for op in ops):
        raise UnsupportedError(
            "ONNX Runtime would execute none of the quantized model's matrix products in int8", where=model.name
        )
    if precision == "int8":
        _check_kept(model, ops)
    fed, made = input_names(model), output_names(model)
    steps = _steps(model.proto, made.values())
    return Artifact(
        backend="onnxruntime",
        format=FORMAT.name,
        file=FILE,
        precision=precision,
        inputs=tuple(_binding(spec, fed[spec.name], None) for spec in model.inputs if spec.name in fed),
        outputs=tuple(_binding(spec, made[spec.name], steps[made[spec.name]]) for spec in model.outputs),
        widens=precision in ("int8", "int8-dynamic") and not saturates(ctx.target.device),
        coverage=tuple(
            Coverage(subject=op.name or op.op, state=_FLOATS.get(op.dtype, "float32"), reason=f"{op.op}: {op.reason}")
            for op in ops
            if op.reason
        ),
    )


def _check_kept(model: OnnxModel, ops: Iterable[OpRecord]) -> None:
    """The runtime's optimizer quantizes weights of its own accord where it sees fit: see that it did not."""
    layers = {layer.node: layer.name for layer in find_layers(model.proto) if layer.op != "embedding"}
    integer = {op.layer for op in ops if op.op in INTEGER_PRODUCTS}
    if wrong := sorted(name for node, name in layers.items() if node in model.kept_float and name in integer):
        raise UnsupportedError(
            f"ONNX Runtime would execute {', '.join(wrong)} in int8, though to be kept in float", where=model.name
        )


def _binding(spec: TensorSpec, name: str, step: float | None) -> TensorBinding:
    return TensorBinding(name=spec.name, artifact_name=name, shape=spec.shape, dtype=spec.dtype, step=step)


def _steps(proto: onnx.ModelProto, outputs: Iterable[str]) -> dict[str, float | None]:
    """Scale of the DequantizeLinear that makes each output, where one does."""
    made_by, known = producers(proto), constants(proto)

    def step(name: str) -> float | None:
        node = made_by.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in known:
            return None
        return float(known[node.input[1]].max())

    return {name: step(name) for name in outputs}
