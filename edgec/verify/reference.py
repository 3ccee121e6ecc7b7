"""Outputs of the float model over a spool: what artifacts are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.errors import BackendUnavailableError, InputSpecError, ModelError
from edgec.model.outputs import tensors_of
from edgec.model.spec import Array, FloatModel, Tensors
from edgec.verify.outputs import OutputWriter, open_outputs

if TYPE_CHECKING:
    import torch

Forward = Callable[[Tensors], dict[str, Array]]


def float_outputs(model: FloatModel, samples: Sequence[Tensors], out: Path, threads: int) -> dict[str, Array]:
    """The float model's outputs, one sample at a time as artifacts run, memory-mapped from folder `out`.

    Args:
        model: run as its torch graph or module, or in ONNX Runtime when only ONNX is known.
        samples: what to run it on.
        out: folder for the outputs, one .npy of shape (samples, *output shape) each.
        threads: CPU threads.

    Raises:
        InputSpecError: the model does not take the samples.
        ModelError: an output is NaN.
        UnsupportedError: an output's shape depends on the data.
    """
    return open_outputs(_write_outputs(model, samples, out, threads))


def _write_outputs(model: FloatModel, samples: Sequence[Tensors], out: Path, threads: int) -> dict[str, str]:
    writer = OutputWriter(out, len(samples))
    with ExitStack() as stack:
        module = model.graph if model.graph is not None else model.module
        forward = stack.enter_context(_torch(model, module, threads)) if module is not None else _onnx(model, threads)
        for index, sample in enumerate(samples):
            try:
                outputs = forward(sample)
            except (RuntimeError, ValueError, TypeError, IndexError) as exc:
                raise InputSpecError(
                    f"the float model fails on sample {index}: {exc}",
                    where=model.name,
                    hint="check the names, shapes and dtypes of [[model.inputs]], and the values of integer inputs",
                ) from exc
            for name, array in outputs.items():
                if array.dtype.kind == "f" and np.isnan(array).any():
                    raise ModelError(f'output "{name}" of the float model is NaN on sample {index}', where=model.name)
            writer.put(index, outputs)
    return writer.close()


@contextmanager
def _torch(model: FloatModel, module: torch.nn.Module, threads: int) -> Iterator[Forward]:
    import torch

    def forward(sample: Tensors) -> dict[str, Array]:
        result = module(*(torch.from_numpy(sample[item.name]) for item in model.inputs))
        arrays = [tensor.detach().numpy() for tensor in tensors_of(result)]
        return {item.name: array for item, array in zip(model.outputs, arrays, strict=True)}

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield forward
    finally:
        torch.set_num_threads(before)


def _onnx(model: FloatModel, threads: int) -> Forward:
    if model.onnx is None:
        raise ModelError("has neither a torch module nor an ONNX file", where=model.name)
    try:
        import onnxruntime
    except ImportError:
        raise BackendUnavailableError(
            "onnxruntime is not installed, and the model is ONNX", hint="pip install 'edgec[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])
    fed = [item.name for item in session.get_inputs()]
    given = [item.name for item in session.get_outputs()]

    def forward(sample: Tensors) -> dict[str, Array]:
        arrays = session.run(given, dict(zip(fed, (sample[item.name] for item in model.inputs), strict=True)))
        return {item.name: array for item, array in zip(model.outputs, arrays, strict=True)}

    return forward
