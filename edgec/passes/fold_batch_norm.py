"""Folding BatchNorm into the convolution or linear layer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import GraphPass, bypass, call_counts, checked, finish, input_shapes, module_of, own_graph

if TYPE_CHECKING:
    from torch import fx


@dataclass(frozen=True)
class FoldBatchNorm(GraphPass):
    """Scale weights and bias by a following BatchNorm's statistics (exact at inference).

    Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Fold each BatchNorm that follows a layer nothing else reads; the others are recorded in the coverage."""
        from torch import nn
        from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

        graph = own_graph(model)
        shapes = input_shapes(graph, sample_tensors(model.inputs, seed=0))
        counts = call_counts(graph)
        folded, coverage = 0, []
        for node in list(graph.graph.nodes):
            norm = module_of(node, graph)
            if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
                continue
            layer_node = node.args[0] if node.args else node.kwargs["input"]
            if reason := _obstacle(layer_node, norm, graph, counts, len(shapes.get(layer_node, ()))):
                coverage.append(Coverage(subject=str(node.target), state="BatchNorm kept", reason=reason))
                continue
            layer: Any = module_of(layer_node, graph)
            if isinstance(layer, nn.Linear):
                fused: nn.Module = fuse_linear_bn_eval(layer, norm)
            else:
                transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
                fused = _fused_transposed(layer, norm) if transposed else fuse_conv_bn_eval(layer, norm)
            graph.set_submodule(str(layer_node.target), fused.eval())
            bypass(node, layer_node)
            folded += 1
        return PassResult(checked(self.name, model, finish(graph)), f"folded {folded} BatchNorm", tuple(coverage))


def _obstacle(layer_node: fx.Node, norm: Any, graph: fx.GraphModule, counts: dict[str, int], rank: int) -> str | None:
    from torch import nn

    layer = module_of(layer_node, graph)
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    if not isinstance(layer, kinds):
        return "it does not follow a convolution or linear layer"
    if len(layer_node.users) > 1:
        return "something else reads the layer's output too"
    if counts[str(layer_node.target)] > 1:
        return "the layer is used more than once"
    if norm.running_mean is None or norm.running_var is None:
        return "it keeps no running statistics"
    # BatchNorm takes axis 1 for the channels; a linear layer has them last, an unbatched convolution first
    if rank != (2 if isinstance(layer, nn.Linear) else layer.weight.dim()):
        return "it does not normalize the layer's channels"
    return None


def _fused_transposed(layer: Any, norm: Any) -> Any:
    """As `fuse_conv_bn_eval`, which takes one group only for transposed convolutions."""
    import copy

    import torch

    fused = copy.deepcopy(layer)
    with torch.no_grad():
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale + (norm.bias if norm.bias is not None else 0)
        # weight is (in, out / groups, ...): output channel = group * (out / groups) + index
        groups = layer.groups
        per_group = scale.reshape(groups, 1, -1).expand(groups, layer.in_channels // groups, -1)
        spatial = [1] * (layer.weight.dim() - 2)
        weight = layer.weight * per_group.reshape(layer.in_channels, -1, *spatial)
        bias = shift if layer.bias is None else layer.bias * scale + shift
        fused.weight, fused.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    return fused
