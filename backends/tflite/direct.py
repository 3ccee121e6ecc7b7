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
    fuse_activations,
    fuse_dense,
    reduce_before_transpose,
    reset_states,
    spare_last_transposes,
)
from edgec.errors import UnsupportedError

NAME = "onnx2tf's direct converter"
_NAME_IN_TEXT = re.compile(r"\b(?:op|node)=(\S+)")


def convert(file: Path, keep_layout: Sequence[str], work: Path) -> bytes:
    """The float flatbuffer of `file`.

    Args:
        file: ONNX file as `onnx_graph.prepare` makes it.
        keep_layout: input names whose axis order stays.
        work: empty folder that the converter may litter.

    Raises:
        UnsupportedError: the converter gave up; the message names the op and the node.
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
        raise UnsupportedError(_explain(exc, graph), where="tflite") from exc
    return tidy((work / "model_float32.tflite").read_bytes())


def tidy(content: bytes) -> bytes:
    """What the converter wrote, with products as kernels like them and no state that would outlive a run."""
    model = unpack(content)
    reduce_before_transpose(model)
    spare_last_transposes(model)
    fuse_dense(model)
    fuse_activations(model)
    reset_states(model)
    return pack(model)


def _explain(exc: BaseException, graph: Any) -> str:
    told = " ".join(str(exc).split())
    kind, name = _culprit(exc)
    if not name and (found := _NAME_IN_TEXT.search(told)):
        name = found[1]
        kind = next((node.op_type for node in graph.graph.node if node.name == name), "")
    place = f" {kind} (node {name})" if kind else f" this model{f' (node {name})' if name else ''}"
    return f"{NAME} has no form of{place}: {type(exc).__name__}: {told[:300]}"


def _culprit(exc: BaseException) -> tuple[str, str]:
    """Kind and name of the node that was being translated when `exc` was raised; empty: it cannot be told."""
    for frame, _ in reversed(list(traceback.walk_tb(exc.__traceback__))):
        node = frame.f_locals.get("node")
        if isinstance(getattr(node, "op", None), str) and getattr(node, "name", None):
            return str(node.op), str(node.name)
    return "", ""
