"""Structured pruning: whole channels out of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgec.errors import PassError
from edgec.model.outputs import tensors_of
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
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
        round_to: channels that are left are a multiple of this.
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
            pruner = pruning.BasePruner(
                graph,
                example,
                importance=pruning.importance.MagnitudeImportance(p=1),
                pruning_ratio=self.amount,
                round_to=self.round_to,
                ignored_layers=_untouched(graph),
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
        return PassResult(
            model.with_graph(graph, same_function=False),
            f"{before[0] / 1e6:.2f} -> {after[0] / 1e6:.2f} MMAC, "
            f"{before[1] / 1e3:.1f} -> {after[1] / 1e3:.1f} k parameters",
        )

    def ensures(self, model: FloatModel, ctx: PassContext) -> str | None:
        """Nothing further: `run` has run the pruned graph."""
        return None


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
