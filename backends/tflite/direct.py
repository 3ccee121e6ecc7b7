"""ONNX to a float flatbuffer by onnx2tf's direct converter, without TensorFlow. Runs in the compile worker only."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgec.backends.tflite.flatbuffer import pack, unpack
from edgec.backends.tflite.program_edits import (
    absorb_pads,
    fuse_activations,
    fuse_dense,
    reduce_before_transpose,
    reset_states,
    spare_last_transposes,
)
from edgec.errors import UnsupportedError

NAME = "onnx2tf's direct converter"
_VALIDATION = re.compile(r"validation failed: op=(\S+) node=(\S+) reason_code=\S+ message=(.*)")
_NAMED = re.compile(r"\b(?:op|node)=(\S+)")


class NodeRefusedError(UnsupportedError):
    """The converter gave up at a node."""

    node = ""
    """Its name in the file; empty: unknown."""


def convert(file: Path, keep_layout: Sequence[str], work: Path) -> bytes:
    """The float flatbuffer of `file`.

    Args:
        file: ONNX file as `onnx_graph.prepare` makes it.
        keep_layout: input names whose axis order stays.
        work: empty folder that the converter may litter.

    Raises:
        NodeRefusedError: the converter gave up; the message names the op and the node.
    """
    import onnx
    from onnx2tf.tflite_builder import export_tflite_model_flatbuffer_direct

    graph = onnx.load(str(file))
    try:
        with contextlib.chdir(work), contextlib.redirect_stdout(sys.stderr):
            export_tflite_model_flatbuffer_direct(
                onnx_graph=graph,
                output_folder_path=str(work),
                output_file_name="model",
                keep_shape_absolutely_input_names=list(keep_layout) or None,
                flatbuffer_direct_show_progress=False,
            )
    except (Exception, SystemExit) as exc:
        raise _refusal(exc, graph) from exc
    return tidy((work / "model_float32.tflite").read_bytes())


def tidy(content: bytes) -> bytes:
    """What the converter wrote, with products as kernels like them and no state that would outlive a run."""
    model = unpack(content)
    fuse_dense(model)
    fuse_activations(model)
    reduce_before_transpose(model)
    spare_last_transposes(model)
    absorb_pads(model)
    reset_states(model)
    return pack(model)


def _refusal(exc: BaseException, graph: Any) -> NodeRefusedError:
    message = " ".join(str(exc).split())
    kind, name = _culprit(exc)
    if match := _VALIDATION.search(message):
        kind, name, message = match.groups()
    kinds = {node.name: node.op_type for node in graph.graph.node}
    if name not in kinds and (match := _NAMED.search(message)):
        name = match[1]
    kind = kinds.get(name, kind)
    place = f"{kind} (node {name})" if name in kinds else kind or "this model"
    error = NodeRefusedError(f"{NAME} has no form of {place}: {message[:300] or type(exc).__name__}", where="tflite")
    error.node = name if name in kinds else ""
    return error


def _culprit(exc: BaseException) -> tuple[str, str]:
    """Kind and name of the node that was being translated when `exc` was raised; empty: unknown."""
    for frame, _ in reversed(list(traceback.walk_tb(exc.__traceback__))):
        node: Any = frame.f_locals.get("node")
        if isinstance(getattr(node, "op", None), str) and getattr(node, "name", None):
            return str(node.op), str(node.name)
    return "", ""
