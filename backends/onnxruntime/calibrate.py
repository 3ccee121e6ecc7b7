"""Ranges of a graph's tensors over the calibration samples, one sample at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.onnxruntime.graph import OnnxModel, input_names, opset
from edgec.backends.onnxruntime.session import open_session
from edgec.errors import DatasetError
from edgec.model.spec import Tensors

if TYPE_CHECKING:
    import onnx

Range = tuple[np.float32, np.float32]
"""Smallest and largest value seen."""


def float_tensors(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of all float32 tensors of the main graph that are computed or fed, in graph order."""
    from onnx import TensorProto

    graph = proto.graph
    float_values = {
        item.name
        for item in (*graph.value_info, *graph.input, *graph.output)
        if item.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    constant = {item.name for item in graph.initializer}
    named = [item.name for item in graph.input] + [tensor for node in graph.node for tensor in node.output]
    return tuple(tensor for tensor in dict.fromkeys(named) if tensor in float_values and tensor not in constant)


def observe_ranges(model: OnnxModel, samples: Sequence[Tensors], *, threads: int, work: Path) -> dict[str, Range]:
    """Min-max range of every float tensor over `samples`.

    The reductions are ops of the graph, so each sample brings back two numbers a tensor; memory does not grow with
    the number of samples. (The stock calibrater keeps every output until the end, and its
    ``max_intermediate_outputs`` throws data away unmerged.)

    Raises:
        DatasetError: there are no samples.
        UnsupportedError: ONNX Runtime refuses the graph.
    """
    import onnx

    if len(samples) == 0:
        raise DatasetError("the calibration set is empty", where=model.name)
    tensors = float_tensors(model.proto)
    with tempfile.TemporaryDirectory(dir=work, prefix="calibrate-") as folder:
        file = Path(folder, "observed.onnx")
        onnx.save(_with_reductions(model.proto, tensors), str(file))
        session = open_session(file, threads=threads, level="basic")
    fed = input_names(model)
    names = [_reduced(kind, index) for index in range(len(tensors)) for kind in ("Min", "Max")]
    low = np.full(len(tensors), np.inf, np.float32)
    high = np.full(len(tensors), -np.inf, np.float32)
    for sample in samples:
        found = session.run(names, {fed[name]: value for name, value in sample.items() if name in fed})
        values = np.array(found, np.float32).reshape(-1, 2)
        low = np.minimum(low, values[:, 0])  # NaN wins, unlike with fmin: it must show
        high = np.maximum(high, values[:, 1])
    return {tensor: (low[index], high[index]) for index, tensor in enumerate(tensors)}


def _reduced(kind: str, index: int) -> str:
    return f"edgec_{kind}_{index}"


def _with_reductions(proto: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """`proto` with a scalar minimum and maximum of each tensor as its only outputs."""
    import onnx
    from onnx import TensorProto, helper

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    del graph.output[:]
    for index, tensor in enumerate(tensors):
        for kind in ("Min", "Max"):
            name = _reduced(kind, index)
            graph.node.append(helper.make_node(f"Reduce{kind}", [tensor], [name], keepdims=0, name=name))
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    assert opset(result) >= 13  # `lower` sees to it; ReduceMin without axes is the same in all of these
    return result


def unusable(ranges: Mapping[str, Range]) -> frozenset[str]:
    """Tensors whose range no 8-bit scale can hold: not finite, or so wide that the step overflows all else."""
    limit = np.float32(1e30)
    return frozenset(
        name
        for name, (low, high) in ranges.items()
        if not (np.isfinite(low) and np.isfinite(high)) or max(-low, high) > limit
    )
