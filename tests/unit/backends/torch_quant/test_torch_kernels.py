"""That weights are wide enough and no wider: the real kernels against exact integer arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.kernels import saturates
from edgec.backends.torch_quant.qconfig import Width, weight_observer

LAYERS: dict[str, tuple[int, int, int, int]] = {
    "dense": (16, 32, 1, 3),
    "pointwise": (64, 32, 1, 1),
    "grouped": (32, 32, 4, 3),
    "depthwise": (32, 32, 32, 3),
    "many groups": (128, 128, 128, 3),
    "depthwise 5x5": (32, 32, 32, 5),
    "depthwise, twice the channels": (16, 32, 16, 3),
}
"""Input channels, output channels, groups, kernel."""


def worst_error(engine: str, layer: str, width: Width) -> float:
    """Steps between the kernel and exact arithmetic, activations and weights being as large as can be."""
    inputs, outputs, groups, size = LAYERS[layer]
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(192, 256, (1, inputs, 9, 9), generator=random).float()
    positive = torch.rand((outputs, inputs // groups, size, size), generator=random) < 0.8
    observer = weight_observer("per-channel", width)()
    observer(torch.where(positive, 1.0, -1.0))
    scales, zeros = observer.calculate_qparams()
    weights = torch.quantize_per_channel(torch.where(positive, 1.0, -1.0), scales, zeros, 0, torch.qint8)
    exact = nn.functional.conv2d(codes.double(), weights.dequantize().double(), padding=size // 2, groups=groups)
    low = min(float(exact.min()), 0.0)
    scale = (float(exact.max()) - low) / 255
    zero = round(-low / scale)
    with running(engine, 1):
        quantized: Any = torch.ops.quantized
        pads = [size // 2] * 2
        packed = quantized.conv2d_prepack(weights, torch.zeros(outputs), [1, 1], pads, [1, 1], groups)
        result = quantized.conv2d(torch.quantize_per_tensor(codes, 1.0, 0, torch.quint8), packed, scale, zero)
    wanted = (torch.round(exact / scale) + zero).clamp(0, 255)
    return float((result.int_repr().double() - wanted).abs().max())


def layer_module(layer: str) -> nn.Conv2d:
    """The float layer."""
    inputs, outputs, groups, size = LAYERS[layer]
    return nn.Conv2d(inputs, outputs, size, groups=groups)


@pytest.mark.parametrize("layer", LAYERS)
def test_qnnpack_is_exact_with_full_weights(layer: str) -> None:
    assert not saturates("qnnpack", False, layer_module(layer))
    assert worst_error("qnnpack", layer, "full") <= 1


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("engine", ["fbgemm", "x86", "onednn"])
def test_pairs_within_sixteen_bits_never_overflow(engine: str, layer: str) -> None:
    assert worst_error(engine, layer, "pair") <= 1


@pytest.mark.parametrize("engine", ["fbgemm", "x86"])
def test_depthwise_kernels_of_fbgemm_overflow_with_full_weights_even_with_vnni(engine: str) -> None:
    assert saturates(engine, True, layer_module("many groups"))
    assert worst_error(engine, "many groups", "full") > 20


AVX2 = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("kernels_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for layer in module.LAYERS:
    full = module.saturates("onednn", False, module.layer_module(layer))
    wide, pair = (module.worst_error("onednn", layer, width) for width in ("full", "pair"))
    assert (wide > 20) == full, (layer, wide)
    assert pair <= 1, (layer, pair)
"""


def test_onednn_without_vnni_overflows_where_the_table_says() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", AVX2, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_narrower_weights_waste_no_code() -> None:
    weights = torch.tensor([[1.0, -0.01, 0.01, 0.0], [1.0, 1.0, 0.0, -0.5], [-0.7, 0.7, 0.1, 0.1]])
    observer = weight_observer("per-channel", "pair")()
    observer(weights)
    scales, zeros = observer.calculate_qparams()
    codes = torch.quantize_per_channel(weights, scales, zeros, 0, torch.qint8).int_repr().int()
    # one large weight has all of 8 bits, two have 7 bits each; opposite signs cannot overflow together
    assert codes[0, 0] == 126
    assert codes[1].tolist() == [64, 64, 0, -32]
    assert codes[2].tolist()[:2] == [-111, 111]
