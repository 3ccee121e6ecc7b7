"""The passes of the torch backends that are not static quantization."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.backends.torch_quant.embed_padding import embed_asymmetric_padding
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.qconfig import Granularity, Width, weight_observer
from edgec.errors import UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.quant.half import WHY_SPARED

if TYPE_CHECKING:
    from torch import fx


@dataclass(frozen=True)
class EmbedPadding(Pass[TorchModel]):
    """Asymmetric pads become zeros in the kernel: torch would leave int8 for a pad, and fbgemm is slow after it."""

    name: ClassVar[str] = "embed-padding"

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        graph = copy.deepcopy(model.graph)
        count = embed_asymmetric_padding(graph, model.example)
        return PassResult(replace(model, graph=graph), f"embedded {count} pads in kernels")


@dataclass(frozen=True)
class StoreFloat16(Pass[TorchModel]):
    """Weights in half precision in the file; torch's CPU kernels are slow in float16, so it computes in float32."""

    name: ClassVar[str] = "store-float16"

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        from edgec.backends.torch_quant.half import round_weights

        graph = copy.deepcopy(model.graph)
        beyond, small = round_weights(graph)
        coverage = [
            Coverage(
                subject="weights",
                state="float32",
                reason="stored in float16 and widened on use: torch has no fast float16 kernels for CPUs",
            )
        ]
        reason = "a value is beyond float16's range"
        coverage += [Coverage(subject=name, state="float32", reason=reason) for name in beyond]
        if small:
            coverage.append(Coverage(subject=f"{small} weights", state="float32", reason=WHY_SPARED))
        return PassResult(replace(model, graph=graph, half=True), "rounded weights to float16", coverage)


@dataclass(frozen=True)
class QuantizeDynamic(Pass[TorchModel]):
    """int8 weights of Linear, LSTM and GRU; activations are quantized as they come."""

    weights: Granularity = "per-channel"
    reduced: bool = False
    """7-bit weights. Nothing overflows without: torch gives dynamic activations 7 bits on x86."""

    name: ClassVar[str] = "quantize-dynamic"

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        import torch
        from torch import nn
        from torch.ao import quantization
        from torch.ao.quantization import PlaceholderObserver

        width: Width = "reduced" if self.reduced else "full"
        make_qconfig: Any = quantization.QConfig
        quantize: Any = quantization.quantize_dynamic

        activation = PlaceholderObserver.with_args(dtype=torch.quint8, quant_min=0, quant_max=255, is_dynamic=True)
        linear = make_qconfig(activation=activation, weight=weight_observer(self.weights, width))
        # the recurrent kernels take one scale a matrix
        recurrent = make_qconfig(activation=activation, weight=weight_observer("per-tensor", width))
        with running(model.engine, ctx.threads):
            graph = quantize(copy.deepcopy(model.graph), {nn.Linear: linear, nn.LSTM: recurrent, nn.GRU: recurrent})
        count = _dynamic_count(graph)
        if not count:
            raise UnsupportedError(
                "nothing of the model can be quantized to dynamic int8",
                where=f"pass {self.name}",
                hint="it takes nn.Linear, nn.LSTM and nn.GRU; a purely convolutional model needs precision int8",
            )
        coverage = _left_in_float(graph)
        return PassResult(replace(model, graph=graph), f"{count} dynamically quantized modules", coverage)

    def ensures(self, model: TorchModel, ctx: PassContext) -> str | None:
        return None if _dynamic_count(model.graph) else "no module is dynamically quantized"


def _dynamic_count(graph: fx.GraphModule) -> int:
    return sum("quantized.dynamic" in type(part).__module__ for part in graph.modules())


def _left_in_float(graph: fx.GraphModule) -> list[Coverage]:
    """The modules that multiply by weights, and whose kernels torch has not in dynamic int8."""
    from torch import nn

    layers = []
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    kinds = (nn.modules.conv._ConvNd, nn.RNNBase, nn.Linear, nn.Bilinear, nn.MultiheadAttention)
    for name in sorted(called):
        part = graph.get_submodule(name)
        inner = [item for item in part.modules() if isinstance(item, kinds)]
        if inner and "quantized" not in type(part).__module__:
            reason = f"{type(inner[0]).__name__}: torch's dynamic quantization covers Linear, LSTM and GRU only"
            layers.append(Coverage(subject=name, state="float32", reason=reason))
    return layers
