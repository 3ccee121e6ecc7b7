"""The float model as one ONNX file with fixed shapes, byte for byte the same each time."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import UnsupportedError
from edgec.model import onnx_file
from edgec.model.attention import attention_in_parts
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel

if TYPE_CHECKING:
    import torch

OPSET = 17
"""What the legacy exporter writes well, and onnx2tf and ONNX Runtime both read."""


@dataclass(frozen=True)
class ExportedOnnx:
    """The file and what the exporter had to assume."""

    path: Path
    notes: tuple[str, ...] = ()


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
        out.write_bytes(onnx_file.with_fixed_dims(model.onnx, model.inputs).SerializeToString(deterministic=True))
        return ExportedOnnx(out)
    module: Any = model.graph if model.graph is not None else model.module
    if module is None:
        raise UnsupportedError("the model is known neither as a module nor as ONNX", where=model.name)
    example = sample_tensors(model.inputs, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with attention_in_parts():
                _export(module, example, model, out)
        except Exception as exc:
            raise UnsupportedError(
                f"the model cannot be written as ONNX: {_reason(exc)}",
                where=model.name,
                hint="replace the op by ones that ONNX opset 17 has, or give the model as .onnx",
            ) from exc
    proto = onnx.load(out)
    _keep_first_producer(proto)
    out.write_bytes(proto.SerializeToString(deterministic=True))
    return ExportedOnnx(out, _notes(caught))


def _export(module: Any, example: tuple[torch.Tensor, ...], model: FloatModel, out: Path) -> None:
    import torch

    from edgec.model.wrappers import AlwaysEval

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
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


def _keep_first_producer(proto: Any) -> None:
    """Drop what may name source paths of this machine."""
    proto.doc_string = ""
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


def _reason(exc: BaseException) -> str:
    text = str(exc)
    if found := re.search(r"operator '?([\w:.]+)'?", text):
        return f"operator {found[1]} is not supported"
    return (text.strip().splitlines() or [type(exc).__name__])[0]


def _notes(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    import torch
    from torch.jit._trace import TracerWarning

    own = Path(torch.__file__).parent
    found = [
        f"{Path(item.filename).name}:{item.lineno}: {str(item.message).splitlines()[0]}"
        for item in caught
        if issubclass(item.category, TracerWarning) and not Path(item.filename).is_relative_to(own)
    ]
    return tuple(dict.fromkeys(found))
