"""Whether runtimes can run a file at all, tried in a process of its own: what they cannot run may abort it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.backends.tflite.runner import INTERPRETERS, load
from edgec.errors import PassError, UnsupportedError, WorkerError
from edgec.frozen import Frozen
from edgec.model.spec import Array
from edgec.workers.records import Done
from edgec.workers.worker import Progress, call


def check_kernels(content: bytes, runtimes: Sequence[str]) -> None:
    """Load a file in each runtime, as far as finding its kernels, which is safe in this process.

    Raises:
        UnsupportedError: a runtime has no kernel of an op in the version that the file has.
    """
    for runtime in runtimes:
        module = importlib.import_module(INTERPRETERS[runtime])
        try:
            module.Interpreter(model_content=content, num_threads=1)
        except (ValueError, RuntimeError) as exc:
            message = next((line for line in str(exc).splitlines() if "builtin opcode" in line), "")
            if message:
                raise UnsupportedError(f"{runtime}: {message}", where="tflite") from exc


def check_runs(content: bytes, inputs: dict[str, Array], runtimes: Sequence[str], work: Path) -> None:
    """Run one sample in each runtime.

    Args:
        content: the flatbuffer.
        inputs: input tensor -> array.
        runtimes: names, as in `runner.INTERPRETERS`.
        work: scratch folder.

    Raises:
        PassError: a runtime refuses the file, crashes on it, or gives values that are not finite.
    """
    folder = work / "try-out"
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(content)
    names = list(inputs)
    for index, name in enumerate(names):
        np.save(folder / f"{index}.npy", inputs[name])
    for runtime in runtimes:
        request = TryOut(folder=folder, inputs=tuple(names), runtime=runtime)
        try:
            call(f"{__name__}:try_out", request, Done, log=folder / "log.txt", what=f"tflite: {runtime}")
        except (UnsupportedError, WorkerError) as exc:
            message = exc.what if isinstance(exc, UnsupportedError) else f"{runtime} crashes on the file"
            raise PassError(message, where="tflite", hint="keep int8 activations, or layers in float") from exc


class TryOut(Frozen):
    """A request of `try_out`."""

    folder: Path
    """Holds ``model.tflite``, and each input as ``<its place>.npy``."""
    inputs: tuple[str, ...]
    """Names of the input tensors."""
    runtime: str


def try_out(request: TryOut, progress: Progress) -> Done:
    """Load a file in a runtime and run it once (a task of `edgec.workers.worker`).

    Args:
        request: the file and its runtime.
        progress: called with the name of each step.

    Raises:
        UnsupportedError: an output is not finite.
    """
    folder, runtime = request.folder, request.runtime
    progress(f"load in {runtime}")
    interpreter = load(runtime, folder / "model.tflite", num_threads=1)
    fed = {item["name"]: item["index"] for item in interpreter.get_input_details()}
    for index, name in enumerate(request.inputs):
        interpreter.set_tensor(fed[name], np.load(folder / f"{index}.npy"))
    progress(f"run in {runtime}")
    interpreter.invoke()
    for item in interpreter.get_output_details():
        if not np.isfinite(interpreter.get_tensor(item["index"])).all():
            raise UnsupportedError(f'{runtime} gives values of "{item["name"]}" that are not finite')
    return Done()
