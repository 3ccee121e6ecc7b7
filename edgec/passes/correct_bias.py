"""Empirical bias correction: the mean error that rounding the weights makes goes into the biases."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.dataset.spool import Spool
from edgec.model.spec import FloatModel, TensorSpec
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import finish, own_graph
from edgec.passes.weight_layers import (
    SampledPass,
    WeightLayer,
    channel_axis,
    is_transposed,
    quiet_torch,
    run_graph,
    run_side_by_side,
    sample_of,
    spread,
    weight_layers,
)
from edgec.quant.recipe import WeightGrid

if TYPE_CHECKING:
    import torch
    from torch import fx

SAMPLES = 32
MOST_SAMPLES = 256


@dataclass(frozen=True)
class CorrectBias(SampledPass):
    """Add ``E[y] - E[y_rounded]`` of each output channel to the bias, in execution order.

    Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2 and appendix D. Only biases change: the backend
    rounds the weights later, on the same grid. For a model whose weights `RoundAdaptively` has placed this does
    nothing: that pass corrects the biases itself.
    """

    grid: WeightGrid
    float_layers: tuple[str, ...] = ()
    """Layers that the backend will keep in float."""

    name: ClassVar[str] = "correct-bias"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Compare means over evenly spread calibration samples."""
        graph, samples = own_graph(model), ctx.samples(self.name)
        layers, coverage = weight_layers(graph, self.float_layers)
        with quiet_torch(ctx.threads):
            weights, left = rounded_weights(layers, self.grid)
            refused = correct_biases(graph, graph, weights, model.inputs, samples, self.float_layers)
        summary = f"corrected the biases of {len(weights) - len(refused)} layers"
        return PassResult(model.with_graph(finish(graph), same_function=False), summary, (*coverage, *left, *refused))


def rounded_weights(
    layers: Sequence[WeightLayer], grid: WeightGrid
) -> tuple[dict[str, torch.Tensor], tuple[Coverage, ...]]:
    """Weights of `layers` by name, to nearest on `grid`, and the layers that are left out, with the reason.

    Transposed convolutions stay float in ONNX Runtime and in torch's engines: a bias corrected for weights that are
    never rounded would itself be the error.
    """
    from edgec.passes.weight_simulation import simulated_weight

    weights, left = {}, []
    for layer in layers:
        if is_transposed(layer.module):
            reason = "some backends leave transposed convolutions in float: there would be no error to correct"
            left.append(Coverage(subject=layer.name, state="bias not corrected", reason=reason))
        else:
            weights[layer.name] = simulated_weight(layer.module, grid)
    return weights, tuple(left)


def correct_biases(
    graph: fx.GraphModule,
    reference: fx.GraphModule,
    weights: dict[str, torch.Tensor],
    inputs: Sequence[TensorSpec],
    spool: Spool,
    float_layers: Sequence[str] = (),
) -> tuple[Coverage, ...]:
    """Correct the biases of `graph`, in place, for layers that will compute with `weights`.

    The float model's means are taken sample by sample. Then all samples go through the rounded model side by side,
    layer by layer, so that each layer sees what the corrected ones before it give, at the cost of one run; there are
    no more samples than a batch of 32 takes memory. A layer that is called more than once is corrected beforehand,
    for the error that its own weights make of the float model's inputs.

    Args:
        graph: its weights are left alone; a bias is added where a layer has none.
        reference: the float model; may be `graph` itself.
        weights: rounded weights by layer name.
        inputs: what both graphs take.
        spool: calibration samples.
        float_layers: as for `weight_layers`.

    Returns:
        Layers without a correction, and why.
    """
    import torch
    from torch import nn

    chosen = spread(len(spool), _affordable(reference, sample_of(spool, inputs, 0)))
    targets, local = _float_means(reference, weights, inputs, spool, chosen, float_layers)
    simulated = copy.deepcopy(graph)
    layers = [layer for layer in weight_layers(simulated, float_layers)[0] if layer.name in weights]
    coverage: list[Coverage] = []

    def shift(layer: WeightLayer, error: torch.Tensor) -> torch.Tensor | None:
        if not error.isfinite().all():
            reason = "its outputs are not finite on the calibration samples"
            coverage.append(Coverage(subject=layer.name, state="bias not corrected", reason=reason))
            return None
        amount = credible_mean(error).to(layer.module.weight.dtype)
        corrected: Sequence[Any] = (layer.module, graph.get_submodule(layer.name))
        for module in corrected:
            module.bias = nn.Parameter(amount.clone() if module.bias is None else module.bias + amount)
        return amount

    for layer in layers:
        layer.module.weight = nn.Parameter(weights[layer.name])
        if layer.name in local:
            shift(layer, local[layer.name])
    by_node = {layer.nodes[0]: layer for layer in layers if layer.name not in local}

    def change(node: fx.Node, results: list[Any]) -> list[Any]:
        if (layer := by_node.get(node)) is None:
            return results
        axis = channel_axis(layer.module)
        amount = shift(layer, targets[layer.name] - torch.stack([channel_means(item, axis) for item in results]))
        if amount is None:
            return results
        broadcast = amount.reshape(-1, *[1] * (-1 - axis))
        return [item + broadcast for item in results]

    run_side_by_side(simulated, (sample_of(spool, inputs, index) for index in chosen), change)
    return tuple(coverage)


def credible_mean(error: torch.Tensor) -> torch.Tensor:
    """Mean over samples of (samples, channels), shrunk by what of it may be chance.

    ``m max(0, 1 - se^2 / m^2)``, with the standard error se of the mean m (positive-part James-Stein, one channel at
    a time): few samples and a layer without spatial extent give means that are mostly noise.
    """
    mean = error.mean(dim=0)
    if len(error) < 2:
        return mean
    noise = error.var(dim=0) / len(error)
    return mean * (1 - noise / mean.square().clamp_min(1e-30)).clamp_min(0)


def channel_means(output: torch.Tensor, axis: int) -> torch.Tensor:
    """Mean of each channel over all positions, in float64: sums of many positions lose digits in float32."""
    return output.movedim(axis, 0).reshape(output.shape[axis], -1).double().mean(dim=1)


def _float_means(
    reference: fx.GraphModule,
    weights: dict[str, torch.Tensor],
    inputs: Sequence[TensorSpec],
    spool: Spool,
    chosen: Sequence[int],
    float_layers: Sequence[str],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Means (samples, channels) of all layers' outputs; errors of layers that are called more than once."""
    import torch

    layers = [layer for layer in weight_layers(reference, float_layers)[0] if layer.name in weights]
    by_node = {node: layer for layer in layers for node in layer.nodes}
    means: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in layers}
    errors: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in layers if len(layer.nodes) > 1}

    def seen(node: fx.Node, source: Any, result: Any) -> None:
        if (layer := by_node.get(node)) is None:
            return
        axis = channel_axis(layer.module)
        means[layer.name].append(channel_means(result, axis))
        if layer.name in errors:
            rounded = torch.func.functional_call(layer.module, {"weight": weights[layer.name]}, (source,))
            errors[layer.name].append(channel_means(result - rounded, axis))

    for index in chosen:
        run_graph(reference, sample_of(spool, inputs, index), seen)
    stacked = {layer.name: torch.stack(means[layer.name]) for layer in layers}
    calls = {layer.name: len(layer.nodes) for layer in layers}
    local = {name: torch.stack(rows).reshape(len(chosen), calls[name], -1).mean(dim=1) for name, rows in errors.items()}
    return stacked, local


def _affordable(reference: fx.GraphModule, sample: Sequence[torch.Tensor]) -> int:
    """Number of samples that are run side by side: 32, or what fits into 64 MB where that is more."""
    import torch

    live: dict[fx.Node, int] = {}
    largest = 0

    def seen(node: fx.Node, source: Any, result: Any) -> None:
        nonlocal largest
        for kept in [kept for kept in live if all(reader in live for reader in kept.users)]:
            live[kept] = 0
        live[node] = result.numel() * result.element_size() if isinstance(result, torch.Tensor) else 0
        largest = max(largest, sum(live.values()))

    run_graph(reference, sample, seen)
    own = sum(item.numel() * item.element_size() for item in sample)
    return max(SAMPLES, min(MOST_SAMPLES, 64_000_000 // (own + largest + 1)))
