"""Running the float program over the calibration samples, and statistics of its activations, one sample at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgec.backend.protocol import TensorBinding
from edgec.backends.tflite.flatbuffer import indices, pack, unpack
from edgec.backends.tflite.layout import to_artifact
from edgec.backends.tflite.quantizable import ranged_tensors, rectified_tensors, signature_names
from edgec.model.spec import Array, Tensors
from edgec.quant.statistics import TensorStatistics

SAMPLE_VALUES = 8192
"""About how many values of a tensor one sample adds to its histogram; its extremes are always exact."""


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
    views = [(interpreter.tensor(index), TensorStatistics(histogram), index in rectified) for index in watched]
    for sample in samples:
        for item in inputs:
            interpreter.set_tensor(fed[item.artifact_name], to_artifact(sample[item.name], item.permutation))
        interpreter.invoke()
        for view, statistics, is_rectified in views:
            statistics.observe(_seen(view(), histogram=histogram, rectified=is_rectified))
    return {index: statistics for index, (_, statistics, _) in zip(watched, views, strict=True)}


def _make_outputs(model: Any, wanted: Sequence[int]) -> None:
    graph = model.subgraphs[0]
    fed = set(indices(graph.inputs))
    graph.outputs = list(dict.fromkeys([*indices(graph.outputs), *(index for index in wanted if index not in fed)]))


def _seen(values: Array, *, histogram: bool, rectified: bool) -> Array:
    """What the statistics need of one sample's tensor: its extremes and, for histograms, an even part of it."""
    flat = values.reshape(-1)
    if flat.size <= 2:
        return flat.copy()
    extremes = np.array([0 if rectified else flat.min(), flat.max()], np.float32)
    if not histogram:
        return extremes
    step = max(flat.size // SAMPLE_VALUES, 1)
    while math.gcd(step, values.shape[-1]) > 1:
        step += 1  # places of all channels are met
    return np.append(flat[::step], extremes) if step > 1 else flat.copy()
