"""TorchScript files."""

from __future__ import annotations

from edgec.errors import ModelError
from edgec.model.exported import refuse_other_floats
from edgec.model.formats.interface import ModelFile, unknown_inputs
from edgec.model.from_module import from_module, through_onnx
from edgec.model.spec import FloatModel, ModelSource
from edgec.storage.files import sha256_of


def load(file: ModelFile) -> FloatModel:
    """Load a TorchScript module; its graph is captured on the way through ONNX.

    Raises:
        ModelError: it is not TorchScript, or not float32.
        InputSpecError: inputs are not stated, or the model does not accept them.
    """
    import torch

    try:
        module = torch.jit.load(str(file.path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as exc:
        raise ModelError(f"not a loadable TorchScript file: {str(exc).splitlines()[0]}", where=file.name) from exc
    if not file.stated:
        raise unknown_inputs(file.name, "a TorchScript file does not state its input shape")
    refuse_other_floats(module, file.name)
    source = ModelSource(format="torchscript", path=file.name, sha256=sha256_of(file.path))
    return from_module(file.path.stem, source, module.eval(), file.stated, (), graph_of=through_onnx, where=file.name)
