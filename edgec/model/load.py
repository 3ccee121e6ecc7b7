"""From the project's ``[model]`` to a FloatModel, without executing code the user did not name."""

from __future__ import annotations

from pathlib import Path

from edgec.errors import ModelError
from edgec.model.formats.interface import ModelFile
from edgec.model.formats.registry import loader_of
from edgec.model.spec import FloatModel
from edgec.project.load import split_entry
from edgec.project.spec import ModelSpec
from edgec.toml_source import suggest


def load_model(spec: ModelSpec, root: Path) -> FloatModel:
    """Load the model of `spec`, run a sample through it, and capture its graph where that is possible.

    Args:
        spec: the project's ``[model]``.
        root: folder that its paths are relative to.

    Raises:
        ModelError: missing, unreadable, not a model, or weights that do not fit it.
        UntrustedModelError: loading the file would execute code.
        InputSpecError: input specs are missing, or the model does not accept them.
    """
    file = model_file(spec, root)
    loader = loader_of(file.path, file.name)
    if not loader.takes_weights and (file.weights or spec.arguments):
        given = "weights" if file.weights else "arguments"
        raise ModelError(
            f"{given} go with a Python entry only", where=file.name, hint="edgec build file.py:function --weights FILE"
        )
    return loader.load(file)


def model_file(spec: ModelSpec, root: Path) -> ModelFile:
    """The files that `spec` names, in `root`.

    Args:
        spec: the project's ``[model]``.
        root: folder that its paths are relative to.

    Raises:
        ModelError: no model is named, or a file is missing.
    """
    if not spec.path:
        raise ModelError("no model is given", hint="name it: edgec build MODEL, or [model] path in edgec.toml")
    name, function = split_entry(spec.path) or (spec.path, "")
    path = existing(root, name)
    return ModelFile(path, name, function, existing(root, spec.weights) if spec.weights else None, spec)


def existing(root: Path, name: str) -> Path:
    """The file `name` in `root`, absolute.

    Raises:
        ModelError: there is no such file; the nearest name is the hint.
    """
    path = root / name
    if path.is_file():
        return path.resolve()
    if path.is_dir():
        raise ModelError("this is a folder, not a model file", where=name)
    near = [item.name for item in path.parent.iterdir() if item.is_file()] if path.parent.is_dir() else []
    hint = suggest(path.name, near)
    raise ModelError("no such file", where=name, hint=hint or f"looked in {path.parent}")
