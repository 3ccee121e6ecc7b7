"""How torch observes activations and rounds weights, as FX qconfig mappings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from edgec.backends.torch_quant.kernels import saturates

if TYPE_CHECKING:
    from torch import fx
    from torch.ao.quantization import QConfigMapping

Granularity = Literal["per-channel", "per-tensor"]
Width = Literal["full", "pair", "reduced"]
"""Codes of weights: 8 bits; 8 bits in which no two overflow int16 (`pair_observer`); 7 bits."""


LIMITS: dict[Width, int] = {"full": 127, "pair": 127, "reduced": 64}
"""Largest code; the lowest is its negative, as in ONNX Runtime and TFLite, so that one grid of weights serves all.

64 is the largest of which two cannot overflow: 255 x (64 + 64) fits 16 bits. Weights that were put on the grid of 127
codes lie between the codes of a "pair" or "reduced" one, and are rounded again there.
"""


def static_mapping(
    weights: Granularity, *, reduced: bool, reduced_functions: bool, transposed: bool, float_modules: Iterable[str] = ()
) -> QConfigMapping:
    """Full-range affine quint8 activations (saturation stands for ReLU6, see `saturate`), symmetric qint8 weights.

    Args:
        weights: granularity of their scales.
        reduced: whether weights have 7 bits.
        reduced_functions: whether those of products have that are functions and not modules, which
            `narrow_weights` does not reach.
        transposed: whether transposed convolutions are quantized, and not left in float.
        float_modules: paths of modules that are not quantized.
    """
    from torch import nn
    from torch.ao import quantization
    from torch.ao.quantization import get_default_qconfig_mapping

    from edgec.backends.torch_quant.range_observer import RangeObserver

    make_qconfig: Any = quantization.QConfig

    width: Width = "reduced" if reduced else "full"
    activation = RangeObserver.with_args()
    chosen = make_qconfig(activation=activation, weight=weight_observer(weights, width))
    per_tensor = make_qconfig(activation=activation, weight=weight_observer("per-tensor", width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an observer that none of ours is
        mapping = get_default_qconfig_mapping("x86")
    mapping.set_global(chosen)
    for known, default in list(mapping.object_type_qconfigs.items()):
        if default is not None and known != "reshape" and not _is_fixed(default):
            mapping.set_object_type(known, chosen)
    # transposed kernels have their output channels on another axis, which torch's kernels cannot scale
    for kind in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        mapping.set_object_type(kind, per_tensor if transposed else None)
    width = "reduced" if reduced or reduced_functions else "full"
    of_function = make_qconfig(activation=activation, weight=weight_observer(weights, width))
    of_transposed = make_qconfig(activation=activation, weight=weight_observer("per-tensor", width))
    call = nn.functional
    for function in (call.linear, call.conv1d, call.conv2d, call.conv3d):
        mapping.set_object_type(function, of_function)
    for function in (call.conv_transpose1d, call.conv_transpose2d, call.conv_transpose3d):
        mapping.set_object_type(function, of_transposed if transposed else None)
    for name in float_modules:
        mapping.set_module_name(name, None)
    return mapping


def narrow_weights(prepared: fx.GraphModule, engine: str, vnni: bool, weights: Granularity) -> None:
    """Give the modules that would overflow in `engine`'s kernels narrower weights, in an observed graph, in place.

    Args:
        prepared: the observed graph.
        engine: kernel library.
        vnni: whether the device has int8 dot products.
        weights: one scale for each output channel, or one for all.
    """
    from torch import nn
    from torch.ao import quantization

    make_qconfig: Any = quantization.QConfig
    products = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    for module in prepared.modules():
        # torch's fused modules are sequences that begin with the product
        layer = module[0] if isinstance(module, nn.Sequential) and len(module) else module
        qconfig: Any = getattr(module, "qconfig", None)
        if qconfig is None or not isinstance(layer, products) or not saturates(engine, vnni, layer):
            continue
        module.qconfig = make_qconfig(activation=qconfig.activation, weight=weight_observer(weights, "pair"))


def weight_observer(weights: Granularity, width: Width) -> Any:
    """A constructor of observers for weights, all symmetric."""
    import torch
    from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

    # one scale for a whole tensor: two weights of the largest size must be reckoned with
    limit = LIMITS["reduced" if width == "pair" and weights == "per-tensor" else width]
    if weights == "per-tensor":
        scheme = torch.per_tensor_symmetric
        return MinMaxObserver.with_args(dtype=torch.qint8, qscheme=scheme, quant_min=-limit, quant_max=limit)
    observer = PerChannelMinMaxObserver
    if width == "pair":
        from edgec.backends.torch_quant.pair_observer import PairObserver

        observer = PairObserver
    scheme = torch.per_channel_symmetric
    return observer.with_args(dtype=torch.qint8, qscheme=scheme, quant_min=-limit, quant_max=limit)


def _is_fixed(qconfig: Any) -> bool:
    """Softmax, sigmoid and tanh have ranges known beforehand, which their kernels insist on."""
    return "FixedQParams" in str(qconfig.activation())
