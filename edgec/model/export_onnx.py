"""The float model as one ONNX file with fixed shapes, byte for byte the same each time."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import UnsupportedError
from edgec.model import onnx_file
from edgec.model.attention import attention_in_parts
from edgec.model.frozen_branches import frozen_branches
from edgec.model.outputs import tensors_of
from edgec.model.samples import close, sample_tensors
from edgec.model.spec import FloatModel

if TYPE_CHECKING:
    import torch

OPSET = 17
"""Opset that the legacy exporter writes well, and onnx2tf and ONNX Runtime both read."""


NEWER_OPSET = 18
"""Opset of torch.export's exporter, for ops that the legacy one lacks; all three read it too."""


@dataclass(frozen=True)
class ExportedOnnx:
    """The file and what the exporter had to assume."""

    path: Path
    frozen: tuple[str, ...] = ()
    """Places where the code may go another way for other data, and the file does not."""
    other: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """All that the report states."""
        return self.frozen + self.other


def export_onnx(model: FloatModel, out: Path) -> Path:
    """`export_with_notes`, without the notes."""
    return export_with_notes(model, out).path


def export_with_notes(model: FloatModel, out: Path) -> ExportedOnnx:
    """Write `model` to the file `out`, with the input and output names of its specs.

    A model that came as ONNX is copied with its dims fixed.

    Raises:
        BackendUnavailableError: the package onnx is not installed.
        UnsupportedError: the exporter cannot express an op; it is named.
    """
    onnx_file.require_onnx()
    import onnx

    out.parent.mkdir(parents=True, exist_ok=True)
    if model.onnx is not None:
        fixed = onnx_file.with_fixed_dims(model.onnx, model.inputs)
        onnx_file.state_output_shapes(fixed, model.outputs)
        out.write_bytes(fixed.SerializeToString(deterministic=True))
        return ExportedOnnx(out)
    module: Any = model.graph if model.graph is not None else model.module
    if module is None:
        raise UnsupportedError("the model is known neither as a module nor as ONNX", where=model.name)
    example = sample_tensors(model.inputs, seed=0)
    notes: tuple[str, ...] = ()
    with frozen_branches() as frozen:
        try:
            with attention_in_parts():
                _export(module, example, model, out)
        except Exception as exc:
            if _export_folded(module, example, model, out):
                pass
            elif _export_by_program(module, example, model, out):
                notes = (f"written at ONNX opset {NEWER_OPSET}, since opset {OPSET} lacks an op: {_reason(exc)}",)
            else:
                raise UnsupportedError(
                    f"the model cannot be written as ONNX: {_reason(exc)}",
                    where=model.name,
                    hint="replace the op by ones that ONNX has, or give the model as .onnx",
                ) from exc
    proto = onnx.load(out)
    _drop_debug_text(proto)
    out.write_bytes(proto.SerializeToString(deterministic=True))
    return ExportedOnnx(out, tuple(frozen), notes)


def _export(module: Any, example: tuple[torch.Tensor, ...], model: FloatModel, out: Path) -> None:
    import torch

    from edgec.model.plain_ops import PlainOps
    from edgec.model.wrappers import AlwaysEval

    with torch.no_grad(), torch.random.fork_rng(devices=[]), PlainOps():
        if not isinstance(module, torch.jit.ScriptModule):
            module = AlwaysEval(module)
        torch.onnx.export(
            module,
            example,
            str(out),
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=True,
            input_names=[item.name for item in model.inputs],
            output_names=[item.name for item in model.outputs],
        )


def _export_folded(module: Any, example: tuple[torch.Tensor, ...], model: FloatModel, out: Path) -> bool:
    """Export a TorchScript module with what follows from its weights alone computed before; False when it fails."""
    import torch

    if not isinstance(module, torch.jit.ScriptModule):
        return False
    try:
        _export(torch.jit.freeze(module, optimize_numerics=False), example, model, out)
    except Exception:
        return False  # the error states what the module as it is lacks
    return True


def _export_by_program(module: Any, example: tuple[torch.Tensor, ...], model: FloatModel, out: Path) -> bool:
    """Export by torch.export's exporter, which knows more ops and is slower; False when that is not right either."""
    import torch

    if importlib.util.find_spec("onnxscript") is None or isinstance(module, torch.jit.ScriptModule):
        return False
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                external_data=False,
                opset_version=NEWER_OPSET,
                input_names=[item.name for item in model.inputs],
                output_names=[item.name for item in model.outputs],
                verbose=False,
            )
            assert program is not None
            program.save(out)
            wanted = tensors_of(module(*[item.clone() for item in example]))
        outputs = onnx_file.run(out, model.inputs, [item.numpy() for item in example])
    except Exception:
        return False  # the error states what the first exporter lacks
    # it writes some ops wrongly, such as an LSTM with projections
    return close([torch.from_numpy(array) for _, array in outputs], wanted, tolerance=1e-3)


def _drop_debug_text(proto: Any) -> None:
    """Drop what may name source paths of this machine."""
    proto.doc_string = ""
    del proto.metadata_props[:]
    graph = proto.graph
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


def _reason(exc: BaseException) -> str:
    text = str(exc)
    if named := re.search(r"operator '?([\w:.]+)'?", text):
        return f"operator {named[1]} is not supported"
    first = (text.strip().splitlines() or [type(exc).__name__])[0]
    return first.partition("  [Caused by")[0]
