"""Outputs of the float model over a spool: what artifacts are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.errors import BackendUnavailableError, InputSpecError, ModelError
from edgec.model.outputs import tensors_of
from edgec.model.spec import Array, FloatModel, Tensors
from edgec.passes.weight_layers import quiet_torch
from edgec.verify.fidelity import compare
from edgec.verify.outputs import OutputWriter, open_outputs

if TYPE_CHECKING:
    import torch

Forward = Callable[[Tensors], dict[str, Array]]
EQUAL = 1e-6
"""Largest error of outputs that count as equal: all may be 0."""
MIN_GRAPH_DB = 40.0
"""Between two forms of one float model: rounding leaves more, a wrong axis or constant less than 20."""


def float_outputs(model: FloatModel, samples: Sequence[Tensors], out: Path, threads: int) -> dict[str, Array]:
    """The float model's outputs, one sample at a time as artifacts run, memory-mapped from folder `out`.

    Args:
        model: run in ONNX Runtime when it came as ONNX, else as its torch graph or module.
        samples: what to run it on.
        out: folder for the outputs, one .npy of shape (samples, *output shape) each.
        threads: CPU threads.

    Raises:
        InputSpecError: the model does not take the samples.
        ModelError: an output is NaN.
        UnsupportedError: an output's shape depends on the data.
    """
    writer = OutputWriter(out, len(samples))
    with forwarding(model, threads) as forward:
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
    return open_outputs(writer.close())


def with_right_graph(model: FloatModel, samples: Sequence[Tensors], threads: int) -> FloatModel:
    """`model`, without the torch graph of its ONNX file where that computes something else on `samples`.

    The graph was compared when it was made, on random samples, which real ones may differ from in kind.

    Args:
        model: as loaded.
        samples: a few real ones.
        threads: CPU threads.
    """
    if model.onnx is None or model.graph is None:
        return model
    original = _onnx(model, threads)
    with _torch(model, model.graph, threads) as converted:
        for sample in samples:
            wanted, given = original(sample), converted(sample)
            fidelity = [compare(name, wanted[name], given[name]) for name in wanted]
            far = [item for item in fidelity if item.max_abs_error > EQUAL]
            if (worst := min((item.sqnr_db for item in far), default=MIN_GRAPH_DB)) < MIN_GRAPH_DB:
                reason = f"its torch graph is {worst:.0f} dB from it on a real sample"
                return replace(model, graph=None, module=None, untraceable=f"the model is known as ONNX only: {reason}")
    return model


@contextmanager
def forwarding(model: FloatModel, threads: int) -> Iterator[Forward]:
    """The float model as a function of one sample: in ONNX Runtime when it came as ONNX, else by torch."""
    module = model.graph if model.graph is not None else model.module
    if model.onnx is not None or module is None:
        yield _onnx(model, threads)
    else:
        with _torch(model, module, threads) as forward:
            yield forward


@contextmanager
def _torch(model: FloatModel, module: torch.nn.Module, threads: int) -> Iterator[Forward]:
    import torch

    def forward(sample: Tensors) -> dict[str, Array]:
        result = module(*(torch.from_numpy(sample[item.name]) for item in model.inputs))
        arrays = [tensor.detach().numpy() for tensor in tensors_of(result)]
        return {item.name: array for item, array in zip(model.outputs, arrays, strict=True)}

    with quiet_torch(threads), torch.inference_mode():
        yield forward


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
