"""Handing a float model to a worker process, as files in a private folder of the build."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import EdgecError
from edgec.frozen import Frozen
from edgec.model.fingerprint import fingerprint
from edgec.model.spec import FloatModel, ModelSource, TensorSpec

if TYPE_CHECKING:
    from torch import fx

__all__ = ["fingerprint", "load", "save"]

_OWN = frozenset({"torch", "edgec", "builtins", "math", "_operator", "operator"})
"""Packages that a worker process has in any case."""
_INDEX, _GRAPH, _ONNX = "model.json", "graph.pt", "model.onnx"


class _Index(Frozen):
    name: str
    source: ModelSource
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    untraceable: str
    notes: tuple[str, ...]
    graph: bool
    onnx: str | None


def save(model: FloatModel, folder: Path) -> tuple[str, ...]:
    """Write `model` to `folder` (made if missing). A model without a graph is written as ONNX.

    Returns:
        The model's notes, with those of the ONNX export: branches that it froze.

    Raises:
        UnsupportedError: it has no graph, and cannot be exported to ONNX either.
    """
    import torch

    from edgec.model.export_onnx import export_with_notes

    folder.mkdir(parents=True, exist_ok=True)
    model = _without_foreign_graph(model)
    notes, onnx = model.notes, None
    if model.onnx is not None:
        onnx = _copy_onnx(model.onnx, folder)
    elif model.graph is None:
        try:
            exported = export_with_notes(model, folder / _ONNX)
        except EdgecError as error:
            raise type(error)(
                error.what, where=error.where, hint=f"it has no graph either: {model.untraceable}", log=error.log
            ) from error
        notes, onnx = (*notes, *exported.notes), _ONNX
    if model.graph is not None:
        torch.save(model.graph, folder / _GRAPH)
    index = _Index(
        name=model.name,
        source=model.source,
        inputs=model.inputs,
        outputs=model.outputs,
        untraceable=model.untraceable,
        notes=notes,
        graph=model.graph is not None,
        onnx=onnx,
    )
    (folder / _INDEX).write_text(index.model_dump_json())
    return notes


def load(folder: Path) -> FloatModel:
    """The model that `save` wrote to `folder`."""
    import torch

    index = _Index.model_validate_json((folder / _INDEX).read_text())
    graph = None
    if index.graph:
        # our own GraphModule in the build's private folder: no foreign pickle gets here. What is kept between builds
        # is copied there and checked first (edgec.storage.sealed)
        graph = torch.load(folder / _GRAPH, map_location="cpu", weights_only=False).eval()
    return FloatModel(
        name=index.name,
        source=index.source,
        inputs=index.inputs,
        outputs=index.outputs,
        graph=graph,
        untraceable=index.untraceable,
        module=graph,
        onnx=folder / index.onnx if index.onnx else None,
        notes=index.notes,
    )


def _without_foreign_graph(model: FloatModel) -> FloatModel:
    """The model, without its graph where a process of its own could not load that.

    A graph is pickled with the names of its classes and functions: those of the user's file, or of a package that
    wants another one that is not installed, are not to be had there.
    """
    if model.graph is None or not (foreign := foreign_parts(model.graph)):
        return model
    reason = f"its graph calls what is not torch's own: {', '.join(foreign)}"
    return replace(model, graph=None, module=model.module or model.graph, untraceable=reason)


def foreign_parts(graph: fx.GraphModule) -> tuple[str, ...]:
    """Names of the classes and functions of a graph that are neither torch's nor Python's nor edgec's."""
    names: dict[str, None] = {}
    called = [graph.get_submodule(str(node.target)) for node in graph.graph.nodes if node.op == "call_module"]
    parts: list[Any] = [type(part) for module in called for part in module.modules()]
    parts += [node.target for node in graph.graph.nodes if node.op == "call_function"]
    for part in parts:
        home = getattr(part, "__module__", None) or "torch"  # torch's built-in functions have no module
        if home.partition(".")[0] not in _OWN:
            names[f"{home}.{getattr(part, '__qualname__', part)}"] = None
    return tuple(names)


def _copy_onnx(path: Path, folder: Path) -> str:
    import onnx

    from edgec.model.onnx_file import external_files

    shutil.copyfile(path, folder / _ONNX)
    for name in external_files(onnx.load(path, load_external_data=False)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, folder / name)
    return _ONNX
