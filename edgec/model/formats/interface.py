"""The interface of a format of model files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import InputSpecError
from edgec.model.spec import FloatModel, TensorSpec
from edgec.model.survey import ModelSurvey
from edgec.project.spec import ModelSpec


@dataclass(frozen=True)
class ModelFile:
    """A model file, with what the project states about it."""

    path: Path
    """Absolute."""
    name: str
    """The file as the project names it, for records and messages."""
    function: str
    """Of a Python entry ``file.py:function``; else empty."""
    weights: Path | None
    """Absolute; only of formats that take weights."""
    spec: ModelSpec

    @property
    def stated(self) -> tuple[TensorSpec, ...]:
        """The project's ``[[model.inputs]]``, in call order."""
        return tuple(map(TensorSpec.of, self.spec.inputs))


@dataclass(frozen=True)
class Loader:
    """A format of model files.

    A file is of the first format that lists its suffix; where none does, of the first whose `sniff` accepts it.
    """

    format: str
    """Name of the format in records."""
    shown: str
    """The format in messages; empty when a model cannot be built from it."""
    load: Callable[[ModelFile], FloatModel]
    """Loads the file, runs a sample through it, and captures its graph where that is possible."""
    suffixes: tuple[str, ...] = ()
    """Suffixes of the format, lower-case, with the dot; none where only the content says what a file is."""
    sniff: Callable[[Path], bool] | None = None
    """Whether the content of a file is of this format; None: only the suffix says it."""
    takes_weights: bool = False
    """Whether the file is code, to which ``[model] weights`` and ``arguments`` apply."""
    survey: Callable[[ModelFile], ModelSurvey] | None = None
    """Everything that is wrong with the file, without loading it; None: the first error of `load` is all."""


def unknown_inputs(where: str, what: str = "the model's input is not known") -> InputSpecError:
    """The error for a model whose file does not state its inputs, nor does the project."""
    return InputSpecError(
        what,
        where=where,
        hint='state it: [[model.inputs]] name = "input", shape = [1, ...], or --input input:1x3x224x224',
    )
