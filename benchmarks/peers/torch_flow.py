"""torch's FX graph mode for the onednn engine, with everything folded that one folds by hand, as frozen TorchScript.

    python -m benchmarks.peers.torch_flow SUBJECT OUT      # writes OUT/model.pt; run it with engine "onednn"

Plain convolutions in place of subclasses, so that BatchNorm is fused; asymmetric padding embedded in the kernel; ReLU6
by saturation of the tensor before it; min-max observers of full range, weights per channel.
"""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import (
    MinMaxObserver,
    QConfig,
    default_per_channel_weight_observer,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from benchmarks.peers.subject import Subject, load_subject

FILE, ENGINE = "model.pt", "onednn"


def build(subject: Subject, out: Path) -> None:
    """Write the quantized model."""
    torch.backends.quantized.engine = ENGINE
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    samples = subject.calibration()
    example = (torch.from_numpy(samples[:1].copy()),)
    with torch.no_grad():
        prepared: Any = prepare_fx(plain(subject.module()), _mapping(), example)
        for start in range(0, len(samples), 8):
            prepared(torch.from_numpy(samples[start : start + 8].copy()))
        saturate(prepared)
        traced: Any = torch.jit.trace(convert_fx(prepared), example)
        torch.jit.freeze(traced).save(str(out / FILE))


def plain(model: nn.Module) -> nn.Module:
    """The same network with nothing but `nn.Conv2d`, symmetric padding within it."""
    model = copy.deepcopy(model).eval()
    for name, layer in list(model.named_modules()):
        if type(layer).__name__ == "Conv2dStaticSamePadding":
            model.set_submodule(name, _plain_conv(layer))
    return model


def _plain_conv(layer: Any) -> nn.Conv2d:
    sides = layer.static_padding.padding if isinstance(layer.static_padding, nn.ZeroPad2d) else (0, 0, 0, 0)
    left, right, top, bottom = sides
    (size, _), weight = layer.kernel_size, layer.weight.detach()
    padding = left
    if (left, top) != (right, bottom):
        # kernel of the next odd size with zeros around, so that padding is the same on all sides
        padding = max((size + 1) // 2, right)
        whole = 2 * padding + 1
        inner = slice(padding - left, padding - left + size)
        embedded = torch.zeros(*weight.shape[:2], whole, whole)
        embedded[:, :, inner, inner] = weight
        weight, size = embedded, whole
    conv = nn.Conv2d(
        layer.in_channels, layer.out_channels, size, layer.stride, padding, layer.dilation, layer.groups,
        layer.bias is not None,
    )  # fmt: skip
    conv.weight = nn.Parameter(weight)
    if layer.bias is not None:
        conv.bias = layer.bias
    return conv.eval()


def _mapping() -> Any:
    observer = MinMaxObserver.with_args(reduce_range=False, quant_min=0, quant_max=255)
    chosen = QConfig(activation=observer, weight=default_per_channel_weight_observer)
    mapping = get_default_qconfig_mapping("x86").set_global(chosen)
    for kind, default in list(mapping.object_type_qconfigs.items()):
        if default is not None and kind != "reshape" and "FixedQParams" not in str(default.activation()):
            mapping.set_object_type(kind, chosen)
    return mapping


def saturate(prepared: Any) -> None:
    """Clamp the observers before ReLU6 to its range, and erase it."""
    parts = dict(prepared.named_modules(remove_duplicate=False))
    for node in list(prepared.graph.nodes):
        if node.op != "call_module" or not isinstance(parts[node.target], nn.ReLU6):
            continue
        before, (after,) = node.args[0], node.users
        observer = parts[before.target]
        observer.min_val = torch.tensor(0.0)
        observer.max_val = observer.max_val.clamp(max=6.0)
        after.replace_all_uses_with(before)
        prepared.graph.erase_node(after)
        prepared.graph.erase_node(node)
    prepared.recompile()


if __name__ == "__main__":
    build(load_subject(sys.argv[1]), Path(sys.argv[2]))
