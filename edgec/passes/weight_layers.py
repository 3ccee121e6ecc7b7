"""Layers whose weights a correction of the float model may touch, and running the graph up to one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from edgec.dataset.spool import Spool
from edgec.errors import PassError
from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.model.spec import FloatModel, TensorSpec
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import GraphPass, module_of

if TYPE_CHECKING:
    import torch
    from torch import fx

COMPARED = 4
"""Calibration samples whose outputs are compared before and after a change."""


class CorrectionPass(GraphPass):
    """A pass that changes weights or biases of the float model."""

    def ensures(self, model: FloatModel, ctx: PassContext) -> str | None:
        """Weights and biases are finite."""
        assert model.graph is not None
        layers = weight_layers(model.graph)[0]
        names = [
            item.name for item in layers if not all(bool(value.isfinite().all()) for value in item.module.parameters())
        ]
        return f"not finite: {', '.join(names)}" if names else None


class SampledPass(CorrectionPass):
    """A correction that compares activations."""

    def requires(self, model: FloatModel, ctx: PassContext) -> str | None:
        """A graph and calibration samples."""
        return super().requires(model, ctx) or (None if ctx.calibration else "there are no calibration samples")


@dataclass(frozen=True)
class WeightLayer:
    """A convolution or linear layer, with all nodes that call it (in execution order)."""

    name: str
    """Module path in the graph."""
    module: Any
    nodes: tuple[fx.Node, ...]


Seen = Callable[["fx.Node", Any, Any], None]
"""Called with each node that is run, with its (first) input and its result."""


def weight_layers(
    graph: fx.GraphModule, float_layers: Sequence[str] = ()
) -> tuple[tuple[WeightLayer, ...], tuple[Coverage, ...]]:
    """Convolutions (transposed ones too) and linear layers in the order of their last calls.

    Args:
        graph: after the portable passes.
        float_layers: module paths to leave out; names of ops that are not modules have no effect.

    Returns:
        The layers, and what else holds weights and why it is left alone. A module called under several names is one
        layer.
    """
    from torch import nn

    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *transposed)  # subclasses compute what they like
    direct = {id(attrgetter(str(node.target))(graph)) for node in graph.graph.nodes if node.op == "get_attr"}
    calls: dict[int, list[fx.Node]] = {}
    modules: dict[int, Any] = {}
    coverage: dict[int, Coverage] = {}
    for node in graph.graph.nodes:
        module: Any = module_of(node, graph)
        if module is None or str(node.target) in float_layers or not any(True for _ in module.parameters()):
            continue
        reason = ""
        if type(module) not in kinds:
            if isinstance(module, nn.Embedding) or all(value.dim() <= 1 for value in module.parameters()):
                continue
            reason = f"corrections do not reach the weights inside a {type(module).__name__}"
        elif module._forward_pre_hooks or not isinstance(module.weight, nn.Parameter):
            reason = "its weights are computed when it runs"
        elif {id(value) for value in module.parameters()} & direct:
            reason = "its weights are read elsewhere too"
        if reason:
            coverage[id(module)] = Coverage(subject=str(node.target), state="not corrected", reason=reason)
        else:
            modules[id(module)] = module
            # taken out and put back: the order of last calls
            calls[id(module)] = [*calls.pop(id(module), []), node]
    layers = (WeightLayer(str(nodes[0].target), modules[key], tuple(nodes)) for key, nodes in calls.items())
    return tuple(layers), tuple(coverage.values())


def is_transposed(module: Any) -> bool:
    """Whether `module` is a transposed convolution, whose weight is (in, out / groups, ...)."""
    from torch import nn

    return isinstance(module, nn.modules.conv._ConvTransposeNd)


def channel_axis(module: Any) -> int:
    """Where the channels are in input and output, from the end: batched and unbatched alike."""
    return -1 if not hasattr(module, "kernel_size") else -1 - len(module.kernel_size)


def by_output(module: Any, weight: torch.Tensor) -> torch.Tensor:
    """`weight` of `module` as (output channels, weights of each), a copy or a view."""
    if not is_transposed(module):
        return weight.reshape(weight.shape[0], -1)
    grouped = weight.reshape(module.groups, module.in_channels // module.groups, weight.shape[1], -1)
    return grouped.transpose(1, 2).reshape(module.out_channels, -1)


def in_groups(layers: Sequence[WeightLayer], size: Callable[[WeightLayer], int], most: int) -> list[list[WeightLayer]]:
    """Runs of successive layers whose sizes add up to `most` at most (a layer that is larger is alone).

    Args:
        layers: in execution order.
        size: of a layer.
        most: largest size of a run.
    """
    groups: list[list[WeightLayer]] = []
    total = 0
    for layer in layers:
        total += size(layer)
        if not groups or total > most:
            groups.append([])
            total = size(layer)
        groups[-1].append(layer)
    return groups


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spread."""
    taken = min(count, most)
    return [index * count // taken for index in range(taken)]


def sample_of(spool: Spool, inputs: Sequence[TensorSpec], index: int) -> tuple[torch.Tensor, ...]:
    """One calibration sample in the model's call order.

    Args:
        spool: calibration samples.
        inputs: the model's, in call order.
        index: of the sample.
    """
    import torch

    arrays = spool[index]
    return tuple(torch.from_numpy(arrays[item.name]) for item in inputs)


def run_graph(graph: fx.GraphModule, sample: Sequence[torch.Tensor], seen: Seen, last: fx.Node | None = None) -> None:
    """Run `graph` on one sample, up to and with node `last`; values are dropped when nothing reads them any more.

    Args:
        graph: in eval mode.
        sample: its inputs, in call order.
        seen: called with each node, its first input and its result.
        last: where to stop; None: at the end.
    """
    runner = _interpreter(graph, sample)
    for node in graph.graph.nodes:
        runner.env[node] = runner.run_node(node)
        if node.op != "output" and node.all_input_nodes:
            seen(node, runner.env[node.all_input_nodes[0]], runner.env[node])
        if node is last:
            break
        for done in runner.user_to_last_uses.get(node, ()):
            del runner.env[done]


def run_side_by_side(
    graph: fx.GraphModule, samples: Iterable[Sequence[torch.Tensor]], change: Callable[[fx.Node, list[Any]], list[Any]]
) -> None:
    """Run `graph` on all samples, node by node: what a layer gives may be changed before the next one reads it.

    Memory is that of one run of all samples as a batch. `change` gets a node and its result for each sample, and
    returns the results to go on with.

    Args:
        graph: in eval mode.
        samples: inputs of each run, in call order.
        change: gets a node and its results, one a sample; returns those to go on with.
    """
    runners = [_interpreter(graph, sample) for sample in samples]
    for node in graph.graph.nodes:
        if node.op == "output":
            return
        for runner, value in zip(runners, change(node, [runner.run_node(node) for runner in runners]), strict=True):
            runner.env[node] = value
            for done in runner.user_to_last_uses.get(node, ()):
                del runner.env[done]


def _interpreter(graph: fx.GraphModule, sample: Sequence[torch.Tensor]) -> fx.Interpreter:
    """Runs `graph` node by node on a copy of `sample`: an op may work in place."""
    from torch import fx

    runner = fx.Interpreter(graph)
    runner.args_iter = iter([item.clone() for item in sample])
    return runner


def compared(name: str, before: FloatModel, after: FloatModel, spool: Spool | None) -> FloatModel:
    """`before` with the graph of `after`, once both are seen to give the same outputs on some calibration samples.

    Args:
        name: of the pass, for the message.
        before: the model as it was.
        after: the changed model.
        spool: calibration samples; None compares nothing.

    Raises:
        PassError: the outputs differ.
    """
    assert before.graph is not None
    assert after.graph is not None
    for index in range(0) if spool is None else spread(len(spool), COMPARED):
        assert spool is not None
        sample = sample_of(spool, before.inputs, index)
        ours, theirs = (tensors_of(graph(*[item.clone() for item in sample])) for graph in (after.graph, before.graph))
        if not close(ours, theirs, tolerance=1e-3):
            raise PassError(f"the outputs on calibration sample {index} are different", where=name)
    return before.with_graph(after.graph, same_function=False)


@contextlib.contextmanager
def quiet_torch(threads: int) -> Iterator[None]:
    """No gradients, and `threads` threads within one op."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)
