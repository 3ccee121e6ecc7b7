"""The pass that decides which ops torch's quantizer must not touch, so that no op of a model can fail the artifact."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.backends.bisect import smallest_excluded
from edgec.backends.torch_quant.audit import FLOAT
from edgec.backends.torch_quant.collect import call_arguments
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.qconfig import Granularity
from edgec.backends.torch_quant.trial import Conversion, try_without
from edgec.backends.torch_quant.unsupported import quantizable_nodes, unsupported_nodes
from edgec.errors import UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import module_of

if TYPE_CHECKING:
    import torch
    from torch import fx

_NAMED = 16
"""How often the op that a failure names is believed, before the rest is searched by halving."""


@dataclass(frozen=True)
class LeaveOutUnsupported(Pass[TorchModel]):
    """Keep in float what is known to be unsupported, and what a try on one sample shows to be.

    What fails, or computes something else, is found by the name that the failure has, or by halving; ops of the same
    kind, options and ranks share its fate.
    """

    engine: str = "qnnpack"
    """The engine that is tried: of several the first."""
    weights: Granularity = "per-channel"

    name: ClassVar[str] = "leave-out-unsupported"

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        """Decide by rules, then by trying."""
        known = unsupported_nodes(model)
        # kernels are judged with weights that cannot overflow on whatever machine builds
        how = Conversion(self.engine, self.weights, "auto", vnni=False, threads=ctx.threads)
        sample = call_arguments(model, ctx.samples(self.name)[0])
        left_out = known | _found_by_trying(model, known, how, sample)
        in_order = {node.name: left_out[node.name] for node in model.graph.graph.nodes if node.name in left_out}
        coverage = [Coverage(subject=name, state="float32", reason=reason) for name, reason in in_order.items()]
        summary = f"{len(in_order)} ops stay in float, {len(in_order) - len(known)} of them found by trying"
        return PassResult(replace(model, left_out=in_order), summary, coverage)


def _found_by_trying(
    model: TorchModel, known: Mapping[str, str], how: Conversion, sample: list[torch.Tensor]
) -> dict[str, str]:
    """What has to be left out besides `known` nodes, and why.

    Raises:
        UnsupportedError: torch's way fails whatever is left out.
    """
    candidates = {node.name: node for node in quantizable_nodes(model.graph) if node.name not in known}
    likes: dict[Hashable, list[str]] = {}
    for name, node in candidates.items():
        likes.setdefault(_signature(node, model.graph), []).append(name)
    left_out: dict[str, str] = {}
    for _ in range(_NAMED):
        try:
            try_without(model, {**known, **left_out}, how, sample)
        except UnsupportedError as error:
            if error.where not in candidates or error.where in left_out:
                break
            alike = likes[_signature(candidates[error.where], model.graph)]
            left_out |= dict.fromkeys(alike, error.what)
        else:
            return left_out
    rest = [name for name in candidates if name not in left_out]
    search = smallest_excluded(
        rest,
        lambda names: try_without(model, {**known, **left_out, **dict.fromkeys(names, FLOAT)}, how, sample),
        signature=lambda name: _signature(candidates[name], model.graph),
    )
    reasons = {name: why if why.startswith(FLOAT) else f"{FLOAT}: {why}" for name, why in search.reasons.items()}
    return left_out | reasons


def _signature(node: fx.Node, graph: fx.GraphModule) -> Hashable:
    """What ops have in common that fail alike: kind and options."""
    module: Any = module_of(node, graph)
    if module is not None:
        return type(module).__name__, module.extra_repr()
    options = [repr(item) for item in node.args[1:]] + [f"{key}={item!r}" for key, item in node.kwargs.items()]
    names = {item.name for item in node.all_input_nodes}
    return str(node.target), tuple("tensor" if item in names else item for item in options)
