"""The types that the pipeline passes on: tensor specs and the float model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgec.frozen import Frozen
from edgec.project.spec import DType, InputSpec

if TYPE_CHECKING:
    import torch.fx
    import torch.nn

Array = np.ndarray[Any, np.dtype[Any]]
"""Any NumPy array."""
Tensors = Mapping[str, Array]
"""Named tensors of one inference (one sample, batch axis included)."""


class TensorSpec(Frozen):
    """Name, full shape (batch axis included) and dtype of one model input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: DType = "float32"

    @classmethod
    def of(cls, stated: InputSpec) -> TensorSpec:
        """The spec of an input that the project states."""
        return cls(name=stated.name, shape=stated.shape, dtype=stated.dtype)


class ModelSource(Frozen):
    """Where the float model came from."""

    format: str
    """By its name in `edgec.model.formats.registry`."""
    path: str
    """File name as the user gave it, relative to the project folder where possible."""
    sha256: str
    """Digest of the model file (for a Python entry: of the .py file)."""
    entry: str | None = None
    """Function name of a Python entry."""
    weights: str | None = None
    weights_sha256: str | None = None
    imported: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of further files: those that a Python entry imports from its folder, and ONNX external data."""


@dataclass(frozen=True)
class FloatModel:
    """The trained model in float32, at a fixed input shape.

    At least one of `graph`, `module` and `onnx` is there. A pass never changes a FloatModel; it returns another.

    Attributes:
        inputs: specs in call order.
        outputs: specs in the order the model returns them; ``output_0``... where it has no names.
        graph: FX graph of plain ``torch.nn`` modules, in eval mode; None when the model cannot be traced.
        untraceable: why `graph` is None, with the user's file, line and source text; empty otherwise.
        module: the eager eval-mode module (equal to `graph` when that is there); None when only ONNX is known.
        onnx: path of an ONNX file with the same function, while it is still valid (see `with_graph`).
    """

    name: str
    source: ModelSource
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    graph: torch.fx.GraphModule | None = None
    untraceable: str = ""
    module: torch.nn.Module | None = None
    onnx: Path | None = None
    notes: tuple[str, ...] = field(default=())
    """Assumptions and changes of loading, for the report."""

    def with_graph(self, graph: torch.fx.GraphModule, *, same_function: bool) -> FloatModel:
        """A copy with another graph; `onnx` is kept only when the function computed is still the same."""
        return replace(self, graph=graph, module=graph, onnx=self.onnx if same_function else None)
