"""The artifact: a TorchScript file with stable bytes, how to feed it, and what of it stayed in float."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.backends.interface import Artifact, Format, TensorBinding
from edgec.backends.torch_quant.audit import FLOAT, executed_ops, is_integer_product
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.model import TorchModel
from edgec.errors import StorageError, UnsupportedError
from edgec.machine import host_machine, saturates
from edgec.model.attention import attention_in_parts
from edgec.model.spec import TensorSpec
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.storage.temporary import private_folder

if TYPE_CHECKING:
    from torch import fx

FORMAT = Format(
    name="torchscript",
    suffix=".pt",
    media_type="application/vnd.edgec.model.torchscript",
    runner=Path(__file__).with_name("run_torchscript.py"),
    runs_in_torch=True,
)
_NUMBER = re.compile(rb"(?<=___torch_mangle_)\d+")
"""What torch adds to the name of a class that the process has had before."""


def emit(model: TorchModel, ctx: PassContext, out: Path, *, backend: str, file: str) -> Artifact:
    """Write the TorchScript of `model` to ``out/file``.

    Args:
        model: after all passes.
        ctx: the target and its settings.
        out: folder to write to; made if it is not there.
        backend: name of the backend.
        file: name of the file.

    Raises:
        UnsupportedError: it cannot be traced, or nothing of an int8 target computes in int8.
        StorageError: the file cannot be written.
    """
    precision = ctx.target.precision
    with running(model.engine, ctx.threads):
        try:
            scripted = script(model)
        except (RuntimeError, TypeError, ValueError) as exc:
            raise UnsupportedError(f"torch cannot trace the model: {_reason(exc)}", where=model.name) from exc
        steps = _steps(model)
        data = _stable_bytes(scripted)
        ops = executed_ops(scripted, precision, model.kept)
    if precision in ("int8", "int8-dynamic") and not any(map(is_integer_product, ops)):
        raise UnsupportedError(f"nothing of the model would be computed in {precision} by torch", where=model.name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(data)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(out / file)) from exc
    return Artifact(
        backend=backend,
        format=FORMAT.name,
        file=file,
        precision=precision,
        inputs=tuple(_binding(spec, None) for spec in model.inputs),
        outputs=tuple(_binding(spec, step) for spec, step in zip(model.outputs, steps, strict=True)),
        engine=model.engine,
        coverage=tuple(
            Coverage(
                subject=op.layer or op.name,
                state="float32",
                reason=op.reason if op.reason.startswith(FLOAT) else f"{op.op}: {op.reason}",
            )
            for op in ops
            if op.reason and not model.half  # the pass has recorded half weights once
        )
        + _this_machine(model, ctx, file),
    )


def _this_machine(model: TorchModel, ctx: PassContext, file: str) -> tuple[Coverage, ...]:
    """What is to be known of figures measured here."""
    if ctx.target.precision != "int8" or model.engine == "qnnpack" or not ctx.target.device.has_int8_dot_product:
        return ()
    if not saturates(host_machine()):
        return ()
    reason = (
        "this machine's CPU has no VNNI: its kernels add int8 products in 16 bits, which can overflow, the device's in "
        "32; the accuracy measured here may be lower than the device's"
    )
    return (Coverage(subject=file, state="measured with other kernels", reason=reason),)


def _reason(exc: Exception) -> str:
    """What an error says first; of one within TorchScript its last line, where the error itself stands."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines and "TorchScript interpreter" in lines[0] else (lines or [type(exc).__name__])[0]


def script(model: TorchModel) -> Any:
    """The traced graph; frozen, unless the weights must stay narrower than what is computed with."""
    import torch

    graph: Any = model.graph
    if model.half:
        from edgec.backends.torch_quant.half import Widened

        graph = Widened(model.graph).eval()
    example = tuple(item.clone() for item in model.example)
    with warnings.catch_warnings(), torch.no_grad(), attention_in_parts():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        traced = trace(graph, example, check_trace=False, strict=False)
        if model.half:  # the first of its kind in a process has classes without numbers; frozen ones always have one
            traced = trace(graph, example, check_trace=False, strict=False)
        return traced if model.half else torch.jit.freeze(traced.eval())


def _binding(spec: TensorSpec, step: float | None) -> TensorBinding:
    return TensorBinding(name=spec.name, artifact_name=spec.name, shape=spec.shape, dtype=spec.dtype, step=step)


def _steps(model: TorchModel) -> list[float | None]:
    """Scale of the quantized tensor that each output is dequantized from, where it is."""
    from torch import fx

    scales: dict[fx.Node, float] = {}

    class _Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if getattr(value, "is_quantized", False):
                scales[n] = float(value.q_scale())
            return value

    with attention_in_parts():
        _Recorder(model.graph).run(*[item.clone() for item in model.example])
    steps: list[float | None] = []

    def visit(node: fx.Node) -> fx.Node:
        made = node.args[0] if node.target == "dequantize" else None
        steps.append(scales.get(made) if isinstance(made, fx.Node) else None)
        return node

    output = next(node for node in model.graph.graph.nodes if node.op == "output")
    fx.node.map_arg(output.args[0], visit)
    return steps if len(steps) == len(model.outputs) else [None] * len(model.outputs)


def _stable_bytes(scripted: Any) -> bytes:
    """The file without debug records, which hold paths and line numbers of the build."""
    import torch

    with private_folder() as folder:
        source = Path(folder, "model.pt")
        torch.jit.save(scripted, str(source))
        reader = torch._C.PyTorchFileReader(str(source))
        made_by_writer = ("version", "byteorder", ".data/version", ".data/serialization_id")
        names = reader.get_all_records()
        records = {
            name: reader.get_record(name)
            for name in names
            if not name.endswith(".debug_pkl") and name not in made_by_writer
        }
        buffer = io.BytesIO()
        writer = torch._C.PyTorchFileWriter(buffer)
        # of an older one torch would rewrite ops when it loads them: a division by a number became a branch
        writer.set_min_version(int(reader.get_record("version" if "version" in names else ".data/version")))
        for name, record in sorted(_renumbered(records).items()):
            writer.write_record(name, record, len(record))
        writer.write_end_of_file()
        return buffer.getvalue()


def _renumbered(records: dict[str, bytes]) -> dict[str, bytes]:
    """Records of a TorchScript file with its classes numbered from 0.

    torch numbers them through the life of the process: the file would depend on how many models were traced before.
    Names of classes stand in code and, each ended by a line break, in pickles; neither states their length.
    """
    texts = {name for name in records if name.endswith((".py", ".pkl"))}
    numbers = {number for name in texts for text in (name.encode(), records[name]) for number in _NUMBER.findall(text)}
    rank = {number: str(index).encode() for index, number in enumerate(sorted(numbers, key=int))}

    def renumber(text: bytes) -> bytes:
        return _NUMBER.sub(lambda match: rank[match[0]], text)

    return {
        renumber(name.encode()).decode() if name in texts else name: renumber(record) if name in texts else record
        for name, record in records.items()
    }
