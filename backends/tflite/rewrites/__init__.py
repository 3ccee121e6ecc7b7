"""Small changes of an ONNX graph, before conversion, where a converter lacks an op or gets it wrong.

Each is a function in a file of its own that edits a model in place and returns how often it applied. None changes what
the graph computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgec.backends.tflite.rewrites.branches_to_where import branches_to_where
from edgec.backends.tflite.rewrites.fold_factors import fold_factors
from edgec.backends.tflite.rewrites.fuse_gelu import fuse_gelu
from edgec.backends.tflite.rewrites.last_states import last_states
from edgec.backends.tflite.rewrites.recurrent_steps import recurrent_steps
from edgec.backends.tflite.rewrites.split_directions import split_directions

Rewrite = Callable[[Any], int]
FOLDS: tuple[Rewrite, ...] = (branches_to_where, fuse_gelu, fold_factors)
"""What makes the graph simpler; the names of layers are taken from what is left."""
FORMS: tuple[Rewrite, ...] = (recurrent_steps, last_states, split_directions)
"""What writes ops as others that the converters get right."""


def rewrite(model: Any, steps: tuple[Rewrite, ...]) -> Any:
    """`model` after these rewrites, in their order."""
    import onnx

    applied = 0
    for step in steps:
        applied += step(model)
    return onnx.shape_inference.infer_shapes(model) if applied else model
