"""An ``.npz`` artifact in its runtime, NumPy; the kernels are in ``run_npz.py``, which bundles carry too."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.backends.binding import artifact_inputs, model_outputs
from edgec.backends.example.model import Layer
from edgec.backends.example.run_npz import LAYERS, run_layers
from edgec.backends.interface import Artifact, OpRecord
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors


class NumpyRunner:
    """Runs one sample a call.

    Raises:
        UnsupportedError: the file is not an artifact of this backend.
    """

    def __init__(self, artifact: Artifact, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as content:
                self._arrays = {name: content[name] for name in content.files if name != LAYERS}
                records = json.loads(content[LAYERS].tobytes())
            self._layers = tuple(Layer.model_validate_json(json.dumps(item)) for item in records)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
            raise UnsupportedError(f"not a model of the example backend: {exc}", where=file.name) from exc
        self._artifact = artifact

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        (value,) = artifact_inputs(self._artifact, inputs)
        try:
            return model_outputs(self._artifact, run_layers(self._layers, self._arrays, value)[-1:])
        except ValueError as exc:
            raise UnsupportedError(str(exc), where=self._artifact.file) from exc

    def ops(self) -> Sequence[OpRecord]:
        reason = "the file has no qparams for it" if self._artifact.precision == "int8" else ""
        return [
            OpRecord(name=item.name, op=item.op, dtype="int8", layer=item.name)
            if item.input
            else OpRecord(name=item.name, op=item.op, dtype="float32", layer=item.name, reason=reason)
            for item in self._layers
        ]
