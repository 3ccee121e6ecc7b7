"""Handing a float model to a worker process, as files in a private folder of the build."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgec.errors import EdgecError
from edgec.frozen import Frozen
from edgec.model.fingerprint import fingerprint
from edgec.model.spec import FloatModel, ModelSource, TensorSpec

__all__ = ["fingerprint", "load", "save"]

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
    known = {name: getattr(model, name) for name in _Index.model_fields}
    index = _Index(**{**known, "notes": notes, "graph": model.graph is not None, "onnx": onnx})
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
    onnx = folder / index.onnx if index.onnx else None
    return FloatModel(**{**dict(index), "graph": graph, "module": graph, "onnx": onnx})


def _copy_onnx(path: Path, folder: Path) -> str:
    import onnx

    from edgec.model.onnx_file import external_files

    shutil.copyfile(path, folder / _ONNX)
    for name in external_files(onnx.load(path, load_external_data=False)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, folder / name)
    return _ONNX
