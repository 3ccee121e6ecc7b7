"""torch.export archives (.pt2)."""

from __future__ import annotations

from edgec.errors import ModelError
from edgec.model.checkpoint import check_pt2_is_data
from edgec.model.exported import call_of, exported_inputs, refuse_other_floats
from edgec.model.formats.interface import ModelFile
from edgec.model.from_module import from_module, through_onnx
from edgec.model.spec import FloatModel, ModelSource
from edgec.storage.files import sha256_of


def load(file: ModelFile) -> FloatModel:
    """Load an exported program; its graph is captured on the way through ONNX.

    Raises:
        ModelError: it cannot be loaded, or is not float32.
        UntrustedModelError: parts of it would execute code.
        InputSpecError: inputs are open or contradict what is stated.
    """
    import torch

    check_pt2_is_data(file.path)
    try:
        program = torch.export.load(str(file.path))
    except Exception as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"not a loadable torch.export file: {reason}", where=file.name) from exc
    specs = exported_inputs(program, file.stated, file.name)
    module = program.module()
    refuse_other_floats(module, file.name)
    source = ModelSource(format="pt2", path=file.name, sha256=sha256_of(file.path))
    call = call_of(program, file.name)
    return from_module(file.path.stem, source, module, specs, (), graph_of=through_onnx, where=file.name, call=call)
