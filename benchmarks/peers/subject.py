"""The model that is measured, as every flow gets it: a folder with calibration samples and a note of what to load."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NOTE, CALIBRATION, HELD_OUT = "subject.json", "calibration.npy", "held_out.npy"


@dataclass(frozen=True)
class Subject:
    """A float model and where its samples are."""

    name: str
    entry: str
    """``file.py:function``, which returns the module in eval mode."""
    folder: str
    """Has `CALIBRATION` and `HELD_OUT`: float32 model inputs, shape (samples, *input shape without batch axis)."""
    weights: str = ""
    """State dict for the module, if the entry does not load one."""
    calibration_data: str = ""
    held_out_data: str = ""
    """The same samples as files for edgec."""
    edgec_flags: list[str] = field(default_factory=list)
    """Command-line flags of ``edgec build``."""

    def save(self) -> None:
        """Write the note into the folder."""
        Path(self.folder, NOTE).write_text(json.dumps(asdict(self), indent=1))

    def module(self) -> Any:
        """The float model."""
        import torch

        path, _, function = self.entry.rpartition(":")
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        assert spec is not None
        assert spec.loader is not None
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        model = getattr(code, function)()
        if self.weights:
            model.load_state_dict(torch.load(self.weights, weights_only=True))
        return model.eval()

    def calibration(self) -> Any:
        """Calibration inputs, memory-mapped."""
        return np.load(Path(self.folder, CALIBRATION), mmap_mode="r")

    def held_out(self) -> Any:
        """Held-out inputs, memory-mapped."""
        return np.load(Path(self.folder, HELD_OUT), mmap_mode="r")


def load_subject(folder: str) -> Subject:
    """The subject saved in `folder`."""
    return Subject(**json.loads(Path(folder, NOTE).read_text()))
