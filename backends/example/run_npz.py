"""The kernels, in NumPy, and what runs an ``.npz`` file without edgec: the harness of a bundle loads this file.

Integer layers accumulate in int32, as device kernels do.
"""

from __future__ import annotations

# ruff: noqa: B905  (zip has no strict= before Python 3.10)
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

LAYERS = "layers"
"""Key of the layers' records in the artifact, as UTF-8 JSON; all other keys are arrays, as of `ExampleModel.arrays`."""

Array = np.ndarray[Any, np.dtype[Any]]


class Runner:
    """An ``.npz`` file in NumPy.

    Args:
        entry: the artifact's table of bench.json.
        path: the file.
        runtime: name of the runtime; there is one.
        threads: not used: NumPy takes its number of threads from the environment.
    """

    def __init__(self, entry: dict[str, Any], path: Path, runtime: str, threads: int) -> None:
        with np.load(path, allow_pickle=False) as content:
            self.arrays = {name: content[name] for name in content.files if name != LAYERS}
            self.layers = json.loads(content[LAYERS].tobytes(), object_hook=lambda item: SimpleNamespace(**item))

    def prepare(self, arrays: list[Array]) -> Array:
        """One sample as `run` takes it."""
        return arrays[0]

    def run(self, feed: Array) -> list[Array]:
        """The outputs of one sample."""
        return run_layers(self.layers, self.arrays, feed)[-1:]


def run_layers(layers: Sequence[Any], arrays: Mapping[str, Array], x: Array) -> list[Array]:
    """Run a chain; a quantized one computes in integers between its ends.

    Args:
        layers: with the attributes of `edgec.backends.example.model.Layer`.
        arrays: as of `edgec.backends.example.model.ExampleModel`.
        x: the input, with a batch axis.

    Returns:
        The input and every layer's output, as float32.

    Raises:
        ValueError: a layer has no kernel.
    """
    values = [x.astype(np.float32)]
    quantized = layers[0].input if layers else None
    if quantized:
        codes = np.round(x / quantized.scale) + quantized.zero_point
        x = np.clip(codes, -128, 127).astype(np.int8)
    for index, layer in enumerate(layers):
        own = {key: arrays[f"{index}.{key}"] for key in ("weight", "bias", "scale") if f"{index}.{key}" in arrays}
        x = _run_layer(layer, own, x)
        out = layer.output
        values.append(((x.astype(np.int32) - out.zero_point) * out.scale).astype(np.float32) if out else x)
    return values


def _run_layer(layer: Any, arrays: Mapping[str, Array], x: Array) -> Array:
    if layer.op in ("conv2d", "linear"):
        return _product(layer, arrays, x)
    if layer.op == "relu":
        return np.maximum(x, np.array(layer.input.zero_point if layer.input else 0, x.dtype))
    if layer.op == "flatten":
        return x.reshape(len(x), -1)
    if layer.op == "max-pool2d":
        lowest = np.iinfo(np.int8).min if layer.input else -np.inf
        largest: Array = _windows(x, layer, layer.kernel, lowest).max(axis=(-2, -1))
        return largest
    if layer.op == "global-average-pool2d":
        mean: Array = x.mean(axis=(2, 3), keepdims=True, dtype=np.float32)
        return np.round(mean).astype(np.int8) if layer.input else mean
    raise ValueError(f'layer {layer.name}: no kernel for "{layer.op}"')


def _product(layer: Any, arrays: Mapping[str, Array], x: Array) -> Array:
    """Convolution or matrix product with bias; int8 ones are requantized: ``q = round(acc S_x S_w / S_y) + Z_y``."""
    weight = arrays["weight"]
    if layer.input:
        x, weight = x.astype(np.int32) - layer.input.zero_point, weight.astype(np.int32)
    if layer.op == "linear":
        total = x @ weight.T
    else:
        windows = _windows(x, layer, weight.shape[2:], 0)
        parts = zip(np.split(windows, layer.groups, axis=1), np.split(weight, layer.groups))
        total = np.concatenate([np.einsum("nchwij,ocij->nohw", part, own) for part, own in parts], axis=1)
    # a matrix product has its channels on the last axis, whatever its rank
    shape = (-1,) if layer.op == "linear" else (-1, 1, 1)
    total = total + arrays["bias"].reshape(shape)
    if layer.input is None or layer.output is None:
        floats: Array = np.maximum(total, 0) if layer.relu else total
        return floats
    factor = layer.input.scale * arrays["scale"] / layer.output.scale
    codes = np.round(total * factor.reshape(shape)) + layer.output.zero_point
    clipped: Array = np.clip(codes, layer.output.zero_point if layer.relu else -128, 127).astype(np.int8)
    return clipped


def _windows(x: Array, layer: Any, kernel: Sequence[int], fill: float) -> Array:
    """(N, C, H, W) -> (N, C, H', W', kernel height, kernel width), padded with `fill`."""
    (top, left), (down, right), (apart_y, apart_x) = layer.padding, layer.stride, layer.dilation
    x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=fill)
    reach = ((kernel[0] - 1) * apart_y + 1, (kernel[1] - 1) * apart_x + 1)
    axes: Any = (2, 3)  # NumPy's annotation knows one axis only
    windows: Array = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
    return windows[:, :, ::down, ::right, ::apart_y, ::apart_x]
