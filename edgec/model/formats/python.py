"""Python entries ``file.py:function``."""

from __future__ import annotations

from pathlib import Path

from edgec.errors import ModelError
from edgec.model.formats.interface import ModelFile, unknown_inputs
from edgec.model.from_module import from_python
from edgec.model.python_entry import entry_module, imports_from, plain_python
from edgec.model.spec import FloatModel, ModelSource
from edgec.storage.files import sha256_of


def load(file: ModelFile) -> FloatModel:
    """Call the function and load the weights into the module that it returns.

    Raises:
        ModelError: no function is named, it fails, returns no module, or the weights do not fit.
        UntrustedModelError: the weights file would execute code.
        InputSpecError: inputs are not stated, or the model does not accept them.
    """
    path, name = file.path, file.name
    if not file.function:
        raise ModelError("a Python file needs a function", where=name, hint=f"{name}:function")
    entry = f"{name}:{file.function}"
    source = ModelSource(
        format="python",
        path=name,
        sha256=sha256_of(path),
        entry=file.function,
        weights=file.spec.weights,
        weights_sha256=sha256_of(file.weights) if file.weights else None,
    )
    with imports_from(path.parent) as imported, plain_python():
        module, notes = entry_module(path, file.function, file.spec.arguments, file.weights)
        folder = Path(name).parent
        digests = {str(folder / item.relative_to(path.parent)): sha256_of(item) for item in imported() if item != path}
        source = source.model_copy(update={"imported": digests})
        if not file.stated:
            raise unknown_inputs(entry)
        return from_python(path.stem, source, module, file.stated, notes, entry)
