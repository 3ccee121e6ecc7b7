"""The TFLite backend's own model: a flatbuffer, the float program it came from, and how to feed it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgec.backend.protocol import TensorBinding
from edgec.frozen import canonical_json
from edgec.passes.contract import Coverage

Arithmetic = Literal["float32", "float16-weights", "int8", "int8-dynamic"]


@dataclass(frozen=True)
class LiteModel:
    """One TFLite program. Quantization starts from `saved_model` again: a flatbuffer cannot be quantized twice.

    Attributes:
        content: the flatbuffer, with tensor names normalised.
        saved_model: folder of the float SavedModel (signature ``serving_default``), in the step's work folder.
        inputs: bindings in the order of the float model; `artifact_name` names both the tensor and the
            signature's key.
        outputs: likewise.
        arithmetic: how `content` computes.
        coverage: what `content` does other than asked.
    """

    content: bytes
    saved_model: Path
    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    arithmetic: Arithmetic = "float32"
    coverage: tuple[Coverage, ...] = ()

    def with_content(self, content: bytes, arithmetic: Arithmetic, coverage: tuple[Coverage, ...] = ()) -> LiteModel:
        """A copy that holds another flatbuffer of the same function."""
        return replace(self, content=content, arithmetic=arithmetic, coverage=coverage)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the flatbuffer and its bindings."""
        digest = hashlib.sha256(self.content)
        bindings = [item.model_dump(mode="json") for item in (*self.inputs, *self.outputs)]
        digest.update(canonical_json(bindings).encode())
        return digest.hexdigest()
