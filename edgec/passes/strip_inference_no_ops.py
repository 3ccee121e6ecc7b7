"""Removing what does nothing at inference: dropout and identities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.graph_edit import GraphPass, bypass, checked, finish, module_of, own_graph, torch_call

if TYPE_CHECKING:
    from torch import fx

_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


@dataclass(frozen=True)
class StripInferenceNoOps(GraphPass):
    """Remove Dropout and Identity."""

    name: ClassVar[str] = "strip-inference-no-ops"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Connect each no-op's users to its input."""
        from torch import nn

        graph = own_graph(model)
        kinds = (nn.Identity, nn.modules.dropout._DropoutNd)
        removed = 0
        for node in list(graph.graph.nodes):
            dropout = node.op == "call_function" and torch_call(node) in _DROPOUTS
            if isinstance(module_of(node, graph), kinds) or (dropout and _training(node) is False):
                source = node.args[0] if node.args else node.kwargs["input"]
                bypass(node, source)
                removed += 1
        return PassResult(checked(self.name, model, finish(graph)), f"removed {removed} dropout and identity layers")

    def ensures(self, model: FloatModel, ctx: PassContext) -> str | None:
        """No Dropout or Identity is left."""
        from torch import nn

        assert model.graph is not None
        kinds = (nn.Identity, nn.modules.dropout._DropoutNd)
        left = [str(node.target) for node in model.graph.graph.nodes if isinstance(module_of(node, model.graph), kinds)]
        return f"still there: {', '.join(left)}" if left else None


def _training(node: fx.Node) -> Any:
    """The argument of torch.dropout(x, p, train) or functional.dropout(x, p=0.5, training=True)."""
    positional = node.args[2] if len(node.args) > 2 else True
    return node.kwargs.get("training", node.kwargs.get("train", positional))
