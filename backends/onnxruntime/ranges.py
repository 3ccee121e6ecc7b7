"""An int8 ONNX file whose quantized activations are read as it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.binding import artifact_inputs
from edgec.backends.interface import ActivationRange, Artifact
from edgec.backends.layer_names import unique_names
from edgec.backends.onnxruntime.graph import constants, producers
from edgec.backends.onnxruntime.origin import layer_of, origins
from edgec.backends.onnxruntime.session import open_session, run
from edgec.backends.ranges import range_of, use_by_codes, use_by_values
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors
from edgec.storage.temporary import private_folder

if TYPE_CHECKING:
    import onnx

Grid = tuple[float, int, str]
"""Scale, zero-point and dtype of a tensor's codes."""


class OnnxRangeWatch:
    """A file whose QuantizeLinear nodes are graph outputs too. Arguments as of `RangeWatcher.watch_ranges`."""

    def __init__(self, artifact: Artifact, file: Path, threads: int) -> None:
        import onnx
        from onnx import helper

        self._artifact, self._name = artifact, file.name
        proto = onnx.load(str(file))
        watched = _watched(proto)
        if not watched:
            raise UnsupportedError("the file has no quantized activations", where=file.name)
        inputs = {binding.artifact_name: binding.name for binding in artifact.inputs}
        names = unique_names(_names(proto, [node for node, _ in watched]))
        self._grids = [grid for _, grid in watched]
        self._codes = [node.output[0] for node, _ in watched]
        self._floats = [node.input[0] if node.input[0] in inputs else "" for node, _ in watched]
        self.ranges = tuple(
            ActivationRange(tensor=name, low=low, high=high, input=inputs.get(node.input[0], ""))
            for name, (node, grid) in zip(names, watched, strict=True)
            for low, high in (range_of(*grid),)
        )
        there = {item.name for item in proto.graph.output}
        for code, (_, _, dtype) in zip(self._codes, self._grids, strict=True):
            if code not in there:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
                proto.graph.output.append(helper.make_tensor_value_info(code, kind, None))
        with private_folder() as folder:
            opened = Path(folder, file.name)
            opened.write_bytes(proto.SerializeToString())
            self._session = open_session(opened, threads=threads, widens=artifact.widens)

    def __call__(self, inputs: Tensors) -> Array:
        names = [binding.artifact_name for binding in self._artifact.inputs]
        feeds = dict(zip(names, artifact_inputs(self._artifact, inputs), strict=True))
        uses = []
        for number, codes in enumerate(run(self._session, self._codes, feeds, self._name)):
            scale, zero_point, _ = self._grids[number]
            item, known = self.ranges[number], self._floats[number]
            if known:
                uses.append(use_by_values(feeds[known], item.low, item.high, scale))
            else:
                uses.append(use_by_codes(codes, zero_point))
        return np.array(uses, np.float64)


def _watched(proto: onnx.ModelProto) -> list[tuple[onnx.NodeProto, Grid]]:
    """QuantizeLinear nodes of activations, in execution order, with one scale each.

    One whose tensor is made of codes of that very grid is left out: the op before moved or chose among values.
    """
    known, made_by = constants(proto), producers(proto)
    watched = []
    for node in _in_order(proto):
        grid = _grid(node, known)
        if node.op_type != "QuantizeLinear" or grid is None or node.input[0] in known:
            continue
        maker = made_by.get(node.input[0])
        sources = [made_by[tensor] for tensor in maker.input if tensor in made_by] if maker is not None else []
        if not any(item.op_type == "DequantizeLinear" and _grid(item, known) == grid for item in sources):
            watched.append((node, grid))
    return watched


def _in_order(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes in an order of execution: quantizers append theirs at the end of the file."""
    made_by = producers(proto)
    ordered: dict[str, onnx.NodeProto] = {}
    waiting = list(reversed(proto.graph.node))
    while waiting:
        node = waiting.pop()
        before = [made_by[tensor] for tensor in node.input if tensor in made_by]
        if late := [item for item in before if item.name not in ordered]:
            waiting += [node, *late]
        else:
            ordered.setdefault(node.name, node)
    return list(ordered.values())


def _grid(node: onnx.NodeProto, known: Mapping[str, Array]) -> Grid | None:
    """The one grid of a (De)QuantizeLinear; None: it has several, or they are computed."""
    if len(node.input) < 3 or node.input[1] not in known or node.input[2] not in known:
        return None
    scale, zero_point = known[node.input[1]], known[node.input[2]]
    if scale.size != 1 or zero_point.size != 1 or zero_point.dtype.kind not in "iu":
        return None
    return float(scale.reshape(())), int(zero_point.reshape(())), zero_point.dtype.name


def _names(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> list[str]:
    """What to call the tensors that nodes quantize: inputs by their name, others by their layer, where it is known."""
    made_by, known = producers(proto), origins(proto)
    names = []
    for node in nodes:
        maker = made_by.get(node.input[0])
        if maker is None:
            names.append(f"input {node.input[0]}")
            continue
        origin = known.get(node.input[0]) or known.get(maker.name)
        names.append(origin.layer if origin is not None else layer_of(maker.name) or maker.name or maker.op_type)
    return names
