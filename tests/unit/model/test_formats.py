"""A format of model files is a row of the registry, and nothing else knows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgec.check.model import open_model
from edgec.errors import ModelError
from edgec.model.formats import registry
from edgec.model.formats.interface import Loader, ModelFile
from edgec.model.load import load_model
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.project.spec import InputSpec, ModelSpec


def _identity(file: ModelFile) -> FloatModel:
    specs = (TensorSpec(name="x", shape=(1, 2)),)
    source = ModelSource(format="text", path=file.name, sha256="")
    return FloatModel(file.path.stem, source, specs, specs, module=torch.nn.Identity())


@pytest.fixture
def text_format(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Loader("text", "text .mdl", _identity, sniff=lambda path: path.read_bytes().startswith(b"model"))
    monkeypatch.setattr(registry, "LOADERS", (*registry.LOADERS, row))


@pytest.mark.usefixtures("text_format")
def test_a_row_is_a_format(tmp_path: Path) -> None:
    (tmp_path / "net.mdl").write_text("model")
    assert load_model(ModelSpec(path="net.mdl"), tmp_path).source.format == "text"
    assert open_model(ModelSpec(path="net.mdl"), tmp_path).outputs[0].shape == (1, 2)
    with pytest.raises(ModelError, match="weights go with a Python entry only"):
        load_model(ModelSpec(path="net.mdl", weights="net.mdl"), tmp_path)


@pytest.mark.usefixtures("text_format")
def test_what_no_row_accepts(tmp_path: Path) -> None:
    (tmp_path / "net.mdl").write_text("something else")
    with pytest.raises(ModelError, match="not a model file") as raised:
        load_model(ModelSpec(path="net.mdl", inputs=(InputSpec(name="x", shape=(1,)),)), tmp_path)
    assert raised.value.hint == "known: file.py:function, .onnx, .pt2 (torch.export), TorchScript .pt, text .mdl"
