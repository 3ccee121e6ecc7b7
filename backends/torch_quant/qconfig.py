"""How torch observes activations and rounds weights, as FX qconfig mappings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from edgec.backends.torch_quant.kernels import ReducedRange, saturates

if TYPE_CHECKING:
    from torch.ao.quantization import QConfigMapping

Observer = Literal["minmax", "histogram"]
Granularity = Literal["per-channel", "per-tensor"]


def static_mapping(observer: Observer, weights: Granularity, reduced: bool) -> QConfigMapping:
    """Full-range affine quint8 activations (saturation stands for ReLU6, see `saturate`), symmetric qint8 weights."""
    from torch import nn
    from torch.ao import quantization
    from torch.ao.quantization import HistogramObserver, MinMaxObserver, get_default_qconfig_mapping

    make_qconfig: Any = quantization.QConfig

    seen = HistogramObserver if observer == "histogram" else MinMaxObserver
    activation = seen.with_args(reduce_range=False, quant_min=0, quant_max=255)
    chosen = make_qconfig(activation=activation, weight=weight_observer(weights, reduced))
    per_tensor = make_qconfig(activation=activation, weight=weight_observer("per-tensor", reduced))
    mapping = get_default_qconfig_mapping("x86")
    mapping.set_global(chosen)
    # transposed kernels have their output channels on another axis, which torch's kernels cannot scale
    transposed = {nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d}
    for known, default in list(mapping.object_type_qconfigs.items()):
        if default is not None and known != "reshape" and not _is_fixed(default):
            mapping.set_object_type(known, chosen)
    functional = (nn.functional.conv_transpose1d, nn.functional.conv_transpose2d, nn.functional.conv_transpose3d)
    kinds: tuple[Any, ...] = (*transposed, *functional)
    for kind in kinds:
        mapping.set_object_type(kind, per_tensor)
    return mapping


def weight_observer(weights: Granularity, reduced: bool) -> Any:
    """A constructor of observers for weights: symmetric, in 8 or 7 bits."""
    import torch
    from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

    low, high = (-64, 63) if reduced else (-128, 127)
    if weights == "per-channel":
        return PerChannelMinMaxObserver.with_args(
            dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=low, quant_max=high
        )
    return MinMaxObserver.with_args(
        dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=low, quant_max=high
    )


def _is_fixed(qconfig: Any) -> bool:
    """Softmax, sigmoid and tanh have ranges known beforehand, which their kernels insist on."""
    return "FixedQParams" in str(qconfig.activation())
