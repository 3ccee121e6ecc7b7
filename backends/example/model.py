"""The model between this backend's passes: a chain of layers as values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgec.frozen import Frozen, canonical_json
from edgec.model.spec import Array, TensorSpec
from edgec.quant.statistics import TensorStatistics


class QParams(Frozen):
    """Scale and zero-point of an int8 tensor: ``x = scale (q - zero_point)``, q from -128 to 127."""

    scale: float
    zero_point: int


class Layer(Frozen):
    """One layer without its arrays. `input` and `output` are None in a float model."""

    op: str
    name: str
    """Of the module in the user's model."""
    relu: bool = False
    """Whether a ReLU ends it."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (1, 1)
    """Window of a pool."""
    groups: int = 1
    input: QParams | None = None
    output: QParams | None = None


@dataclass(frozen=True)
class ExampleModel:
    """A chain of layers.

    Attributes:
        arrays: ``<index>.weight`` (int8 once quantized), ``<index>.bias`` (int32 once quantized) and, once quantized,
            ``<index>.scale``, the weight's scale for each output channel.
        statistics: of the input and every layer's output, between calibration and quantization.
    """

    name: str
    input: TensorSpec
    output: TensorSpec
    layers: tuple[Layer, ...]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    statistics: tuple[TensorStatistics, ...] = ()


def fingerprint(model: ExampleModel) -> str:
    """SHA-256 (hex) over layers and arrays."""
    records = [item.model_dump(mode="json") for item in (model.input, model.output, *model.layers)]
    digest = hashlib.sha256(canonical_json(records).encode())
    for name in sorted(model.arrays):
        array = model.arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    for one in model.statistics:
        digest.update(f"{one.low} {one.high} {one.samples} {one.histograms is not None}".encode())
    return digest.hexdigest()
