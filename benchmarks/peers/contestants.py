"""One model file in its runtime, called in the same way for edgec and for its peer: nothing of edgec is in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
Call = Callable[[], Array]


def load(runtime: str, file: Path, engine: str, sample: Array) -> tuple[Callable[[], None], Callable[[Array], Call]]:
    """Load `file` with one thread.

    Args:
        runtime: ``onnxruntime``, ``ai-edge-litert`` or ``torch``.
        file: the model.
        engine: torch's quantized engine that it was made for.
        sample: an input, float32 NCHW, which tells in which layout the file wants it.

    Returns:
        What to do before a series of calls, and what makes a call of an input. Layout is settled when the call is
        made; the call itself copies the input in, runs, and gives the first output.
    """
    return {"onnxruntime": _onnx, "ai-edge-litert": _lite, "torch": _torch}[runtime](file, engine, sample)


def _onnx(file: Path, engine: str, sample: Array) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return (lambda: None), lambda x: lambda: session.run(output, {name: x})[0]


def _lite(file: Path, engine: str, sample: Array) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    wanted, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if wanted["dtype"] != np.float32 or given["dtype"] != np.float32:
        raise SystemExit(f"{file}: inputs and outputs must be float32 on both sides")
    turned = tuple(wanted["shape"]) != sample.shape

    def make(x: Array) -> Call:
        fed = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if turned else x

        def call() -> Array:
            interpreter.set_tensor(wanted["index"], fed)
            interpreter.invoke()
            return interpreter.get_tensor(given["index"])

        return call

    return (lambda: None), make


def _torch(file: Path, engine: str, sample: Array) -> Any:
    import torch

    def prepare() -> None:
        torch.backends.quantized.engine = engine

    torch.set_num_threads(1)
    prepare()
    module = torch.jit.load(str(file)).eval()

    def make(x: Array) -> Call:
        fed = torch.from_numpy(x)

        def call() -> Array:
            with torch.inference_mode():
                return module(fed).numpy()

        return call

    return prepare, make
