"""The runtime of ``.npz`` artifacts: NumPy. Integer layers accumulate in int32, as device kernels do."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.binding import artifact_inputs, model_outputs
from edgec.backends.example.model import Layer
from edgec.backends.interface import Artifact, OpRecord
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors

LAYERS = "layers"
"""Key of the layers' records in the artifact, as UTF-8 JSON; all other keys are `ExampleModel.arrays`."""


class NumpyRunner:
    """Runs one sample a call.

    Raises:
        UnsupportedError: the file is no artifact of this backend.
    """

    def __init__(self, artifact: Artifact, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as content:
                self._arrays = {name: content[name] for name in content.files if name != LAYERS}
                records = json.loads(content[LAYERS].tobytes())
            self._layers = tuple(Layer.model_validate_json(json.dumps(item)) for item in records)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
            raise UnsupportedError(f"not a model of the example backend: {exc}", where=file.name) from exc
        self._artifact = artifact

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        (value,) = artifact_inputs(self._artifact, inputs)
        return model_outputs(self._artifact, run(self._layers, self._arrays, value)[-1:])

    def ops(self) -> Sequence[OpRecord]:
        reason = "the file has no qparams for it" if self._artifact.precision == "int8" else ""
        return [
            OpRecord(name=item.name, op=item.op, dtype="int8", layer=item.name)
            if item.input
            else OpRecord(name=item.name, op=item.op, dtype="float32", layer=item.name, reason=reason)
            for item in self._layers
        ]


def run(layers: Sequence[Layer], arrays: Mapping[str, Array], x: Array) -> list[Array]:
    """The input and every layer's output as float32; a quantized chain computes in integers between its ends."""
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


def _run_layer(layer: Layer, arrays: Mapping[str, Array], x: Array) -> Array:
    match layer.op:
        case "conv2d" | "linear":
            return _product(layer, arrays, x)
        case "relu":
            return np.maximum(x, np.array(layer.input.zero_point if layer.input else 0, x.dtype))
        case "flatten":
            return x.reshape(len(x), -1)
        case "max-pool2d":
            lowest = np.iinfo(np.int8).min if layer.input else -np.inf
            largest: Array = _windows(x, layer, layer.kernel, lowest).max(axis=(-2, -1))
            return largest
        case "mean-pool2d":
            mean: Array = x.mean(axis=(2, 3), keepdims=True, dtype=np.float32)
            return np.round(mean).astype(np.int8) if layer.input else mean
    raise UnsupportedError(f'no kernel for "{layer.op}"', where=layer.name)


def _product(layer: Layer, arrays: Mapping[str, Array], x: Array) -> Array:
    """Convolution or matrix product with bias; int8 ones are requantized: ``q = round(acc S_x S_w / S_y) + Z_y``."""
    weight = arrays["weight"]
    if layer.input:
        x, weight = x.astype(np.int32) - layer.input.zero_point, weight.astype(np.int32)
    if layer.op == "linear":
        total = x @ weight.T
    else:
        windows = _windows(x, layer, weight.shape[2:], 0)
        parts = zip(np.split(windows, layer.groups, axis=1), np.split(weight, layer.groups), strict=True)
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


def _windows(x: Array, layer: Layer, kernel: tuple[int, ...], fill: float) -> Array:
    """(N, C, H, W) -> (N, C, H', W', kernel height, kernel width), padded with `fill`."""
    (top, left), (down, right), (apart_y, apart_x) = layer.padding, layer.stride, layer.dilation
    x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=fill)
    reach = ((kernel[0] - 1) * apart_y + 1, (kernel[1] - 1) * apart_x + 1)
    axes: Any = (2, 3)  # NumPy's annotation knows one axis only
    windows: Array = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
    return windows[:, :, ::down, ::right, ::apart_y, ::apart_x]
