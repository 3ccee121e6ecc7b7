"""Static int8: affine activations per tensor, symmetric weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from edgec.backends.example.model import ExampleModel, Layer
from edgec.backends.example.model import QParams as LayerQParams
from edgec.backends.example.run_npz import run_layers
from edgec.model.spec import Array
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.quant.qparams import qparams
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import RangeMethod
from edgec.quant.statistics import TensorStatistics

KEEPS_QPARAMS = ("relu", "flatten", "max-pool2d", "global-average-pool2d")
"""Ops whose output has the qparams of their input."""


@dataclass(frozen=True)
class CollectRanges(Pass[ExampleModel]):
    """Watch the input and every layer's output over the calibration samples, once for all recipes."""

    histogram: bool = False

    name: ClassVar[str] = "collect-ranges"

    def run(self, model: ExampleModel, ctx: PassContext) -> PassResult[ExampleModel]:
        samples = ctx.samples(self.name)
        statistics = tuple(TensorStatistics(self.histogram) for _ in (model.input, *model.layers))
        for sample in samples:
            outputs = run_layers(model.layers, model.arrays, sample[model.input.name])
            for one, value in zip(statistics, outputs, strict=True):
                one.observe(value)
        return PassResult(replace(model, statistics=statistics), f"{len(samples)} samples")


@dataclass(frozen=True)
class QuantizeStatic(Pass[ExampleModel]):
    """Quantize every layer to int8, with ranges from the statistics.

    Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference
    (2018): ``x = S (q - Z)``, int32 bias with scale S_x S_w.
    """

    calibration: RangeMethod = "minmax"
    weights: Literal["per-channel", "per-tensor"] = "per-channel"

    name: ClassVar[str] = "quantize-static"

    def run(self, model: ExampleModel, ctx: PassContext) -> PassResult[ExampleModel]:
        ranges = [
            _affine(*choose_range(one, self.calibration, name=name))
            for one, name in zip(model.statistics, ("input", *(layer.name for layer in model.layers)), strict=True)
        ]
        layers: list[Layer] = []
        arrays: dict[str, Array] = {}
        before = ranges[0]
        for index, layer in enumerate(model.layers):
            after = before if layer.op in KEEPS_QPARAMS else ranges[index + 1]
            layers.append(layer.model_copy(update={"input": before, "output": after}))
            if f"{index}.weight" in model.arrays:
                bias = model.arrays[f"{index}.bias"].astype(np.float64) / before.scale
                codes, scale = self._quantize(model.arrays[f"{index}.weight"], bias)
                own = {"weight": codes, "scale": scale, "bias": np.round(bias / scale).astype(np.int32)}
                arrays |= {f"{index}.{key}": value for key, value in own.items()}
            before = after
        return PassResult(
            replace(model, layers=tuple(layers), arrays=arrays, statistics=()), f"{len(layers)} layers int8"
        )

    def ensures(self, model: ExampleModel, ctx: PassContext) -> str | None:
        left = [layer.name for layer in model.layers if layer.input is None]
        return f"not quantized: {', '.join(left)}" if left else None

    def _quantize(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Codes from -127 to 127, and a float64 scale for each output channel; `bias` is in steps of the input."""
        rows = weight.reshape(len(weight), -1)
        # a channel of zeros still has its bias, which must fit int32 and leave half of it to the products
        largest = np.maximum(np.abs(rows).max(axis=1), 127 * np.abs(bias) / 2**30)
        if self.weights == "per-tensor":
            largest = np.full_like(largest, largest.max())
        scale = np.maximum(largest, 1e-12) / 127
        return np.round(rows / scale[:, None]).astype(np.int8).reshape(weight.shape), scale


def _affine(low: float, high: float) -> LayerQParams:
    affine = qparams(low, high, low_code=-128, high_code=127)
    return LayerQParams(scale=affine.scale, zero_point=affine.zero_point)
