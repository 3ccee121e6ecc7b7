"""Running the float program over the calibration samples, and statistics of its activations, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from edgec.backends.interface import TensorBinding
from edgec.backends.tflite.flatbuffer import indices, pack, unpack
from edgec.backends.tflite.layout import to_artifact
from edgec.backends.tflite.quantizable import ranged_tensors, rectified_tensors, signature_names
from edgec.model.spec import Array, Tensors
from edgec.quant.statistics import TensorStatistics

View = Callable[[], Array]
"""A tensor of the interpreter, as it lies there."""
SAMPLE_VALUES = 8192
"""About how many values of a tensor one sample adds to its histogram; its extremes are always exact."""
_TOGETHER = 32
"""Samples whose extremes are taken in together."""


def observe(
    content: bytes, inputs: Sequence[TensorBinding], samples: Iterable[Tensors], *, histogram: bool, threads: int
) -> dict[int, TensorStatistics]:
    """Statistics of every activation that needs a range, by the number of its tensor.

    All of them are made outputs of the graph: so the interpreter keeps its fast kernels (asked to preserve all
    tensors, it would run without XNNPACK, four times slower), and values are read where they lie. Memory is that of
    one sample's activations.

    Args:
        content: the float flatbuffer.
        inputs: how samples are fed.
        samples: calibration samples.
        histogram: also count values.
        threads: of the interpreter.
    """
    from ai_edge_litert.interpreter import Interpreter

    model = unpack(content)
    watched, rectified = ranged_tensors(model), rectified_tensors(model)
    fed, _ = signature_names(model)
    _make_outputs(model, watched)
    interpreter: Any = Interpreter(model_content=pack(model), num_threads=threads)
    interpreter.allocate_tensors()
    for item in inputs:  # tensors whose shapes are computed have no place before the first run
        details = next(
            detail for detail in interpreter.get_input_details() if detail["index"] == fed[item.artifact_name]
        )
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
    empty = {index: TensorStatistics(histogram) for index in watched if not interpreter.tensor(index)().size}
    watched = tuple(index for index in watched if index not in empty)
    views = [interpreter.tensor(index) for index in watched]

    def runs() -> Iterator[None]:
        for sample in samples:
            for item in inputs:
                interpreter.set_tensor(fed[item.artifact_name], to_artifact(sample[item.name], item.permutation))
            interpreter.invoke()
            yield

    if histogram:
        collected = _histograms(runs(), views)
    else:
        collected = _extremes(runs(), views, [index in rectified for index in watched])
    return empty | dict(zip(watched, collected, strict=True))


def _extremes(runs: Iterable[None], views: Sequence[View], rectified: Sequence[bool]) -> list[TensorStatistics]:
    """From the tensors' extremes; statistics of all tensors at once, for most of the time goes to calls."""
    together = TensorStatistics(False, channel_axis=1)
    seen: list[list[tuple[float, float]]] = []
    sources = list(zip(views, rectified, strict=True))
    for _ in runs:
        seen.append([_ends(view().reshape(-1), low_is_zero) for view, low_is_zero in sources])
        if len(seen) == _TOGETHER:
            together.observe_batch(np.array(seen, np.float32))
            seen.clear()
    if seen:
        together.observe_batch(np.array(seen, np.float32))
    return [together.channel(index) if together.samples else TensorStatistics(False) for index in range(len(views))]


def _ends(values: Array, low_is_zero: bool) -> tuple[float, float]:
    # not ``values.min()``, which is Python around this
    return 0.0 if low_is_zero else np.minimum.reduce(values), np.maximum.reduce(values)


def _histograms(runs: Iterable[None], views: Sequence[View]) -> list[TensorStatistics]:
    """From an even part of the values, and their extremes. What is rectified has no values below zero anyway."""
    histograms = [TensorStatistics(True, most=SAMPLE_VALUES) for _ in views]
    for _ in runs:
        for statistics, view in zip(histograms, views, strict=True):
            statistics.observe(view())  # no reference may be left when the interpreter runs again
    return histograms


def _make_outputs(model: Any, wanted: Sequence[int]) -> None:
    graph = model.subgraphs[0]
    fed = set(indices(graph.inputs))
    graph.outputs = list(dict.fromkeys([*indices(graph.outputs), *(index for index in wanted if index not in fed)]))
