"""All formats of model files. A new one is a module in this folder and a row here."""

from __future__ import annotations

from pathlib import Path

from edgec.errors import ModelError
from edgec.model import checkpoint, onnx_survey
from edgec.model.checkpoint import torch_file
from edgec.model.formats import onnx, pt2, python, torchscript
from edgec.model.formats.interface import Loader

LOADERS: tuple[Loader, ...] = (
    Loader("python", "file.py:function", python.load, suffixes=(".py",), takes_weights=True),
    Loader("onnx", ".onnx", onnx.load, suffixes=(".onnx",), survey=onnx_survey.survey),
    Loader("pt2", ".pt2 (torch.export)", pt2.load, sniff=lambda path: torch_file(path) == "pt2"),
    Loader("torchscript", "TorchScript .pt", torchscript.load, sniff=lambda path: torch_file(path) == "torchscript"),
    Loader(
        "checkpoint",
        "",
        lambda file: checkpoint.refuse(file.path),
        suffixes=(".safetensors",),
        sniff=lambda path: torch_file(path) == "checkpoint",
    ),
)


def loader_of(path: Path, name: str) -> Loader:
    """The loader for an existing file.

    Args:
        path: the file.
        name: the file as the project names it, for messages.

    Raises:
        ModelError: no format fits.
    """
    suffix = path.suffix.lower()
    by_suffix = [item for item in LOADERS if suffix in item.suffixes]
    loader = next(iter(by_suffix), None) or next((item for item in LOADERS if item.sniff and item.sniff(path)), None)
    if loader is None:
        known = ", ".join(item.shown for item in LOADERS if item.shown)
        raise ModelError("not a model file", where=name, hint=f"known: {known}")
    return loader
