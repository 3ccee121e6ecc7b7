"""Runs a .tflite file without edgec: the harness of a bundle loads this (`edgec.backends.interface.Format`)."""

from __future__ import annotations

# ruff: noqa: B905  (zip has no strict= before Python 3.10)
import importlib
from pathlib import Path
from typing import Any

INTERPRETERS = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
"""Runtime -> the module of its interpreter."""


class Runner:
    """A .tflite file in LiteRT or tflite-runtime.

    Args:
        entry: the artifact's table of bench.json.
        path: the file.
        runtime: a key of `INTERPRETERS`.
        threads: CPU threads of the interpreter.
    """

    def __init__(self, entry: dict[str, Any], path: Path, runtime: str, threads: int) -> None:
        module = importlib.import_module(INTERPRETERS[runtime])
        self.entry = entry
        self.interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.inputs = {item["name"]: item["index"] for item in self.interpreter.get_input_details()}
        self.outputs = {item["name"]: item["index"] for item in self.interpreter.get_output_details()}

    def prepare(self, arrays: list[Any]) -> list[tuple[int, Any]]:
        """One sample as `run` takes it."""
        return [(self.inputs[item["artifact_name"]], array) for item, array in zip(self.entry["inputs"], arrays)]

    def run(self, feed: list[tuple[int, Any]]) -> list[Any]:
        """The outputs of one sample."""
        for index, array in feed:
            self.interpreter.set_tensor(index, array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(self.outputs[item["artifact_name"]]) for item in self.entry["outputs"]]
