"""The record of a model file's content and problems, made without building from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgec.errors import EdgecError
from edgec.model.graph_ops import OpGraph
from edgec.model.spec import FloatModel, TensorSpec


@dataclass(frozen=True)
class ModelSurvey:
    """The content of a model file, and all its problems.

    Attributes:
        problems: what prevents a build.
        notes: what loading assumes.
        inputs: specs of the inputs that are settled, in call order.
        settled: whether those are all inputs.
        open_inputs: inputs with a shape that neither file nor project fixes -> their dims.
        outputs: specs of the outputs, as run; else the first ones as the file declares them.
        graph: its ops; None when it cannot be read.
        model: ready to be run; None when it cannot be.
    """

    problems: tuple[EdgecError, ...]
    notes: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    settled: bool = False
    open_inputs: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    outputs: tuple[TensorSpec, ...] = ()
    graph: OpGraph | None = None
    model: FloatModel | None = None
