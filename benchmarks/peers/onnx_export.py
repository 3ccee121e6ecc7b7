"""The ONNX file that two of the flows begin with."""

from __future__ import annotations

import warnings
from pathlib import Path

from benchmarks.peers.subject import Subject

INPUT, OUTPUT = "input", "output"


def export(subject: Subject, file: Path) -> None:
    """Float ONNX, opset 17, batch 1, by torch's TorchScript-based exporter."""
    import torch

    example = torch.from_numpy(subject.calibration()[:1].copy())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            subject.module(), (example,), str(file), dynamo=False, opset_version=17,
            input_names=[INPUT], output_names=[OUTPUT],
        )  # fmt: skip
