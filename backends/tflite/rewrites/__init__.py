"""Small changes of an ONNX graph, before conversion, where a converter lacks an op or gets it wrong.

Each is a function in a file of its own that edits a model in place and returns how often it applied. None changes what
the graph computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgec.backends.tflite.rewrites.fuse_gelu import fuse_gelu
from edgec.backends.tflite.rewrites.last_states import last_states
from edgec.backends.tflite.rewrites.recurrent_steps import recurrent_steps

REWRITES: tuple[Callable[[Any], int], ...] = (fuse_gelu, recurrent_steps, last_states)
"""In the order they are applied."""


def rewrite(model: Any) -> Any:
    """`model` after all rewrites."""
    import onnx

    applied = 0
    for step in REWRITES:
        applied += step(model)
    return onnx.shape_inference.infer_shapes(model) if applied else model
