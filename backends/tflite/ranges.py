"""An int8 flatbuffer whose quantized activations are read as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.binding import artifact_inputs
from edgec.backends.interface import ActivationRange, Artifact
from edgec.backends.layer_names import unique_names
from edgec.backends.ranges import range_of, use_by_codes, use_by_values
from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, pack, text, unpack
from edgec.backends.tflite.runner import load
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors
from edgec.storage.temporary import private_folder

Grid = tuple[float, int, str]
"""Scale, zero-point and dtype of a tensor's codes."""


class LiteRangeWatch:
    """A file whose quantized activations are outputs too, which leaves the interpreter its fast kernels.

    Arguments as of `edgec.backends.interface.RangeWatcher.watch_ranges`.
    """

    def __init__(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> None:
        self._artifact = artifact
        model = unpack(file.read_bytes())
        graph = model.subgraphs[0]
        if len(model.subgraphs) > 1:
            raise UnsupportedError("activations within loops and branches cannot be looked at", where=file.name)
        watched = _watched(model, graph)
        if not watched:
            raise UnsupportedError("the file has no quantized activations", where=file.name)
        fed = {text(graph.tensors[index].name): index for index in indices(graph.inputs)}
        names = {fed[item.artifact_name]: item.name for item in artifact.inputs if item.artifact_name in fed}
        sources = [source if source in names else None for _, source, _ in watched]
        self._grids = [grid for _, _, grid in watched]
        self._inputs = [None if source is None else _place(artifact, names[source]) for source in sources]
        labels = unique_names(
            text(graph.tensors[index].name).partition(":")[0] if source is None else f"input {names[source]}"
            for (index, _, _), source in zip(watched, sources, strict=True)
        )
        self.ranges = tuple(
            ActivationRange(tensor=name, low=low, high=high, input="" if source is None else names[source])
            for name, source, grid in zip(labels, sources, self._grids, strict=True)
            for low, high in (range_of(*grid),)
        )
        shown = [text(graph.tensors[index].name) for index, _, _ in watched]
        graph.outputs = list(dict.fromkeys([*indices(graph.outputs), *(index for index, _, _ in watched)]))
        model.signatureDefs = None  # it would name other outputs
        with private_folder() as folder:
            opened = Path(folder, file.name)
            opened.write_bytes(pack(model))
            self._interpreter = load(runtime, opened, num_threads=threads)
        self._fed = {item["name"]: item["index"] for item in self._interpreter.get_input_details()}
        outputs = {item["name"]: item["index"] for item in self._interpreter.get_output_details()}
        self._places = [outputs[name] for name in shown]

    def __call__(self, inputs: Tensors) -> Array:
        fed = artifact_inputs(self._artifact, inputs)
        for binding, value in zip(self._artifact.inputs, fed, strict=True):
            self._interpreter.set_tensor(self._fed[binding.artifact_name], value)
        self._interpreter.invoke()
        uses = []
        for number, place in enumerate(self._places):
            scale, zero_point, _ = self._grids[number]
            item, known = self.ranges[number], self._inputs[number]
            if known is not None:
                uses.append(use_by_values(fed[known], item.low, item.high, scale))
            else:
                uses.append(use_by_codes(self._interpreter.get_tensor(place), zero_point))
        return np.array(uses, np.float64)


def _place(artifact: Artifact, name: str) -> int:
    return [item.name for item in artifact.inputs].index(name)


def _watched(model: Any, graph: Any) -> list[tuple[int, int, Grid]]:
    """Activations in execution order: number of the tensor, of the first that its op reads, and its grid.

    One of the very grid of a tensor that its op reads is left out: the op moved or chose among values.
    """
    watched = []
    for operator in graph.operators:
        read = [index for index in indices(operator.inputs) if index >= 0]
        grids = [_grid(model, graph.tensors[index]) for index in read]
        for index in indices(operator.outputs):
            grid = _grid(model, graph.tensors[index])
            if grid is not None and read and grid not in grids and kind_of(model, operator) != "DEQUANTIZE":
                watched.append((index, read[0], grid))
    return watched


def _grid(model: Any, tensor: Any) -> Grid | None:
    """The one grid of an int8 or int16 activation; None: it is not such a tensor."""
    quantization, dtype = tensor.quantization, names_of("TensorType")[tensor.type].lower()
    if dtype not in ("int8", "int16", "uint8") or quantization is None or is_constant(model, tensor):
        return None
    scales, zero_points = quantization.scale, quantization.zeroPoint
    if scales is None or zero_points is None or len(scales) != 1:
        return None
    return float(scales[0]), int(zero_points[0]), dtype
