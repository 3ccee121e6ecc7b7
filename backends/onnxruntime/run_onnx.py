"""Runs an .onnx file without edgec: the harness of a bundle loads this (`edgec.backends.interface.Format`)."""

from __future__ import annotations

# ruff: noqa: B905  (zip has no strict= before Python 3.10)
from pathlib import Path
from typing import Any


class Runner:
    """An .onnx file in ONNX Runtime.

    Args:
        entry: the artifact's table of bench.json.
        path: the file.
        runtime: name of the runtime; there is one.
        threads: CPU threads within an op.
    """

    def __init__(self, entry: dict[str, Any], path: Path, runtime: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.entry = entry
        providers = ["CPUExecutionProvider"]
        if entry.get("widens"):  # as the device does; an x86 CPU without VNNI adds int8 products in 16 bits otherwise
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception:  # ONNX Runtime 1.23 cannot do so where two nodes read one weight
            if not entry.get("widens"):
                raise
            options.add_session_config_entry("session.x64quantprecision", "0")
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.outputs = [item["artifact_name"] for item in entry["outputs"]]

    def prepare(self, arrays: list[Any]) -> dict[str, Any]:
        """One sample as `run` takes it."""
        return {item["artifact_name"]: array for item, array in zip(self.entry["inputs"], arrays)}

    def run(self, feed: dict[str, Any]) -> list[Any]:
        """The outputs of one sample."""
        outputs: list[Any] = self.session.run(self.outputs, feed)
        return outputs
