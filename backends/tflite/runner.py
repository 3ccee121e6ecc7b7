"""A ``.tflite`` file in one of the two interpreters. Imports the interpreter and NumPy, never TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.binding import artifact_inputs, model_outputs
from edgec.backends.interface import Artifact, OpRecord
from edgec.backends.tflite.audit import Operand, audit_op, explain_chosen, stored_tensors
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors

INTERPRETERS: Mapping[str, str] = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""Runtime name (and distribution) -> module."""


def load(runtime: str, file: Path, **options: Any) -> Any:
    """An interpreter with its tensors allocated; ``plain=True``: without delegates.

    Raises:
        UnsupportedError: the runtime refuses the file.
    """
    module = importlib.import_module(INTERPRETERS[runtime])
    if options.pop("plain", False):
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = module.Interpreter(model_path=str(file), **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as exc:
        message = " ".join(str(exc).split())
        raise UnsupportedError(f"{runtime} refuses the file: {message}", where=file.name) from exc
    return interpreter


class LiteRunner:
    """One loaded file; called with one sample in the float model's names and layout, and answers in them."""

    def __init__(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> None:
        self._artifact = artifact
        self._file = file
        self._runtime = runtime
        self._interpreter = load(runtime, file, num_threads=threads)
        self._inputs = {item["name"]: item for item in self._interpreter.get_input_details()}
        self._outputs = {item["name"]: item for item in self._interpreter.get_output_details()}
        bound = {item.artifact_name for item in (*artifact.inputs, *artifact.outputs)}
        if missing := bound - self._inputs.keys() - self._outputs.keys():
            raise UnsupportedError(f"the file has no tensor called {', '.join(sorted(missing))}", where=file.name)

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        for binding, value in zip(self._artifact.inputs, artifact_inputs(self._artifact, inputs), strict=True):
            self._interpreter.set_tensor(self._inputs[binding.artifact_name]["index"], value)
        self._interpreter.invoke()
        places = [self._outputs[binding.artifact_name]["index"] for binding in self._artifact.outputs]
        return model_outputs(self._artifact, [self._interpreter.get_tensor(place) for place in places])

    def ops(self) -> Sequence[OpRecord]:
        """Every op with its dtype; read without the XNNPACK delegate, which would hide what it took over."""
        plain = load(self._runtime, self._file, num_threads=1, plain=True)
        tensors = {item["index"]: item for item in plain.get_tensor_details()}
        details = plain._get_ops_details()
        written = {int(index) for op in details for index in op["outputs"]}
        written |= {item["index"] for item in plain.get_input_details()}
        ops = [(op["op_name"], list(map(int, op["inputs"])), list(map(int, op["outputs"]))) for op in details]
        stored = stored_tensors(ops, tensors.keys() - written)
        records = []
        for op in details:
            outputs = [tensors[index] for index in map(int, op["outputs"]) if index in tensors]
            records.append(
                audit_op(
                    op["op_name"],
                    outputs[0]["name"] if outputs else op["op_name"],
                    [
                        Operand(
                            np.dtype(tensors[index]["dtype"]).name,
                            tuple(map(int, tensors[index]["shape"])),
                            index not in written,
                            index in stored,
                        )
                        for index in map(int, op["inputs"])
                        if index in tensors
                    ],
                    np.dtype(outputs[0]["dtype"]).name if outputs else "",
                    self._artifact.precision,
                )
            )
        outputs = [binding.artifact_name for binding in self._artifact.outputs]
        return explain_chosen(records, self._artifact.coverage, outputs)
