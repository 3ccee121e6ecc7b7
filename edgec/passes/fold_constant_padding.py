"""Moving symmetric zero padding into the convolution that follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import GraphPass, bypass, call_counts, checked, finish, module_of, own_graph

if TYPE_CHECKING:
    import torch
    from torch import fx


@dataclass(frozen=True)
class FoldConstantPadding(GraphPass):
    """Give a convolution the symmetric zero padding of a ZeroPad before it.

    Asymmetric padding ("SAME" at stride 2) stays, as no framework's convolution layer has it; see
    `edgec.passes.embed_padding` for what the torch backends do about it.
    """

    name: ClassVar[str] = "fold-constant-padding"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Fold each pad whose readers are all convolutions with zero padding of their own."""
        graph = own_graph(model)
        counts = call_counts(graph)
        folded, coverage = 0, []
        for node in list(graph.graph.nodes):
            pads = zero_padding(module_of(node, graph))
            if pads is None:
                continue
            if any(before != after for before, after in pads):
                reason = "it is asymmetric; a convolution pads both sides alike"
            elif not all(can_take_padding(user, node, graph, counts) for user in node.users):
                reason = "what follows is not a convolution that could pad instead"
            else:
                for user in node.users:
                    conv: Any = module_of(user, graph)
                    amounts = tuple(own + pad[0] for own, pad in zip(conv.padding, pads, strict=True))
                    set_padding(conv, amounts)
                bypass(node, node.args[0])
                folded += 1
                continue
            coverage.append(Coverage(subject=str(node.target), state="padding kept", reason=reason))
        return PassResult(checked(self.name, model, finish(graph)), f"folded {folded} pads", tuple(coverage))


def zero_padding(module: torch.nn.Module | None) -> list[tuple[int, int]] | None:
    """(before, after) by spatial axis, outermost first, when `module` pads by a zero constant; negative ones crop."""
    from torch import nn

    if not isinstance(module, nn.modules.padding._ConstantPadNd) or getattr(module, "value", 0) != 0:
        return None
    flat = [int(item) for item in module.padding]  # torch's order: innermost axis first
    pairs = list(zip(flat[::2], flat[1::2], strict=True))[::-1]
    return pairs if all(min(pair) >= 0 for pair in pairs) else None


def can_take_padding(user: fx.Node, pad: fx.Node, graph: fx.GraphModule, counts: dict[str, int]) -> bool:
    """Whether `user` is a convolution, called once, whose zero padding may grow by that of `pad`.

    Args:
        user: node that reads the padded tensor.
        pad: node of the ZeroPad.
        graph: that both are in.
        counts: calls of each module, see `call_counts`.
    """
    from torch import nn

    module = module_of(user, graph)
    pads = zero_padding(module_of(pad, graph))
    return (
        isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and pads is not None
        and len(pads) == len(module.padding)
        and counts[str(user.target)] == 1
        and user.args[:1] == (pad,)
    )


def set_padding(conv: Any, amounts: tuple[int, ...]) -> None:
    """Set a convolution's symmetric zero padding, by spatial axis."""
    conv.padding = amounts
    # the reverse list is what its forward uses for other padding modes; kept equal so that nothing disagrees
    conv._reversed_padding_repeated_twice = [item for amount in reversed(amounts) for item in (amount, amount)]
