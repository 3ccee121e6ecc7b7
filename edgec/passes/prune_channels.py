"""Structured pruning: whole channels out of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgec.errors import PassError
from edgec.model.outputs import tensors_of
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import Coverage, PassContext, PassResult
from edgec.passes.graph_edit import finish, module_of, needs_graph, own_graph

if TYPE_CHECKING:
    from torch import fx, nn


@dataclass(frozen=True)
class PruneChannels:
    """Remove the channels with the smallest weights (L1 norm over their dependency group).

    Fang et al. 2023, DepGraph, https://arxiv.org/abs/2301.12900. What that costs in accuracy is for the gates
    to judge: without training afterwards it is much.

    Attributes:
        amount: share of each layer's channels to remove, 0 to 0.95.
        round_to: channels that are left are the multiple of this nearest to what was asked, and at least one.
    """

    amount: float
    round_to: int = 8

    @property
    def name(self) -> str:
        """Stable identifier."""
        return "prune-channels"

    def requires(self, model: FloatModel, ctx: PassContext) -> str | None:
        """A graph, and something to remove."""
        return "the amount is 0" if self.amount <= 0 else needs_graph(model)

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Prune all layers but those that make the outputs; state the cost before and after as counted."""
        import torch
        import torch_pruning as pruning

        graph = own_graph(model)
        example = sample_tensors(model.inputs, seed=0)
        for parameter in graph.parameters():
            parameter.requires_grad_(True)  # dependency groups are read off the autograd graph
        try:
            before = pruning.utils.count_ops_and_params(graph, example)
            untouched = _untouched(graph)
            layers = {name: layer for name, layer in _layers(graph).items() if layer not in untouched}
            channels = {name: _channels(layer) for name, layer in layers.items()}
            pruner = pruning.BasePruner(
                graph,
                example,
                importance=pruning.importance.MagnitudeImportance(p=1),
                pruning_ratio=self.amount,
                pruning_ratio_dict={layer: self._share(_channels(layer)) for layer in layers.values()},
                round_to=self.round_to,
                ignored_layers=untouched,
                output_transform=tensors_of,
            )
            pruner.step()
            for parameter in graph.parameters():
                parameter.requires_grad_(False)
            finish(graph)
            after = pruning.utils.count_ops_and_params(graph, example)
            with torch.no_grad():
                shapes = [tuple(item.shape) for item in tensors_of(graph(*example))]
        except Exception as exc:
            raise PassError(
                f"the channels of this model cannot be removed: {str(exc).strip().splitlines()[0]}",
                where=self.name,
                hint="a shape written as a number in forward() ties a layer to its size: flatten or use -1",
            ) from exc
        if shapes != [item.shape for item in model.outputs]:
            raise PassError(f"pruning changed the output shapes to {shapes}", where=self.name)
        left = {name: _channels(layer) for name, layer in layers.items()}
        total = sum(channels.values())
        removed = 1 - sum(left.values()) / total if total else 0.0
        whole = [name for name in channels if left[name] == channels[name]]
        reason = (
            f"no multiple of {self.round_to} channels is nearer to {1 - self.amount:.0%} of them, or others need them"
        )
        return PassResult(
            model.with_graph(graph, same_function=False),
            f"{removed:.0%} of the channels removed, {self.amount:.0%} asked; "
            f"{before[0] / 1e6:.2f} -> {after[0] / 1e6:.2f} MMAC, "
            f"{before[1] / 1e3:.1f} -> {after[1] / 1e3:.1f} k parameters",
            [Coverage(subject=name, state="not pruned", reason=reason) for name in whole]
            or ([] if total else [Coverage(subject="model", state="not pruned", reason="it has no layer that can be")]),
        )

    def ensures(self, model: FloatModel, ctx: PassContext) -> str | None:
        """Nothing further: `run` has run the pruned graph."""
        return None

    def _share(self, channels: int) -> float:
        """Share of a layer's channels to remove, so that a multiple of `round_to` is left."""
        left = max(round(channels * (1 - self.amount) / self.round_to), 1) * self.round_to
        # torch-pruning rounds down what is left: a little more keeps 7.999... at 8
        return 1 - (left + 0.01) / channels if left < channels else 0.0


def _layers(graph: fx.GraphModule) -> dict[str, Any]:
    """Layers whose output channels can be pruned, by name."""
    from torch import nn

    return {
        name: item for name, item in graph.named_modules() if isinstance(item, (nn.modules.conv._ConvNd, nn.Linear))
    }


def _channels(layer: Any) -> int:
    return int(getattr(layer, "out_channels", 0) or layer.out_features)


def _untouched(graph: fx.GraphModule) -> list[nn.Module]:
    """Layers that keep their channels: those that make the outputs, and recurrent and attention layers."""
    from torch import nn

    weighted = (nn.modules.conv._ConvNd, nn.Linear)
    whole: Any = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    whole += (nn.TransformerEncoder, nn.TransformerDecoder, nn.Transformer, nn.RNNCellBase, nn.Embedding)
    keep: list[nn.Module] = []
    seen: set[fx.Node] = set()
    queue = list(next(node for node in graph.graph.nodes if node.op == "output").all_input_nodes)
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        module = module_of(node, graph)
        if isinstance(module, weighted):
            keep.append(module)
        else:
            queue += node.all_input_nodes
    for module in graph.modules():
        if isinstance(module, whole):
            keep += list(module.modules())
    return keep
