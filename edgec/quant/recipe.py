"""How one artifact is quantized: a recipe is a value, a rung of the accuracy ladder."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from edgec.frozen import Frozen

RangeMethod = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
"""How the range of an activation follows from its statistics."""
RANGE_METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)

Effort = Literal["fast", "balanced", "max"]
"""How much of the accuracy ladder is tried before the first gate."""
RungName = Literal[
    "min-max",
    "calibration",
    "corrections",
    "dynamic-linear",
    "adaptive-rounding",
    "mixed-precision",
    "int16-activations",
    "training",
]
"""The rungs of the accuracy ladder, in the order they are climbed (`dynamic-linear` first where attention rules)."""


class Recipe(Frozen):
    """Everything that is free when a target says "int8". The default is the cheapest."""

    calibration: RangeMethod = "minmax"
    equalize: bool = False
    """Cross-layer equalization of the float model (Nagel et al. 2019)."""
    smooth: bool = False
    """Channels' scales moved from the inputs of linear layers into their weights (Xiao et al. 2022)."""
    correct_bias: bool = False
    """Empirical bias correction on the calibration samples (Nagel et al. 2019)."""
    round_adaptively: bool = False
    """AdaRound of the weights on the backend's grid (Nagel et al. 2020)."""
    train: bool = False
    """Quantization-aware training on the project's training data."""
    float_layers: tuple[str, ...] = ()
    """Layers that stay in float32, by the names of `Backend.layers`; sorted."""
    linear: Literal["static", "dynamic"] = "static"
    """How the inputs of linear layers are quantized: in calibrated ranges, or in those they have as the model runs.

    With ``dynamic`` what stands between linear layers (attention scores, softmax, norms, residual sums) is in float:
    an artifact of precision int8 whose linear layers are as in one of int8-dynamic, and whose other layers are static.
    """
    activations: Literal["int8", "int16"] = "int8"
    """Width of activations; int16 only where the runtime has such kernels (TFLite's 16x8)."""


class WeightGrid(Frozen):
    """The grid that a backend rounds weights to: ``scale = max|w| / limit``, codes -limit to limit, zero-point 0."""

    limit: Annotated[float, Field(gt=0)] = 127
    """Largest code: 127 for 8 bits, 64 or 63 for reduced range, 7 for 4 bits."""
    per_channel: bool = True
    """One scale for each output channel, or one for the whole tensor."""
