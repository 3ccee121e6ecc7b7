"""Reading and editing FX graphs: what the portable passes share."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.errors import PassError
from edgec.model.outputs import tensors_of
from edgec.model.samples import close, sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext
from edgec.passes.node_values import values_of

if TYPE_CHECKING:
    import torch
    from torch import fx


class GraphPass(Pass[FloatModel]):
    """A pass on the torch graph of a float model, without which the model is as right."""

    optional: ClassVar[bool] = True

    def requires(self, model: FloatModel, ctx: PassContext) -> str | None:
        """A graph."""
        return None if model.graph is not None else f"the model has no graph: {model.untraceable}"


def own_graph(model: FloatModel) -> fx.GraphModule:
    """A copy of the model's graph that a pass may change."""
    assert model.graph is not None, "requires() has checked it"
    return copy.deepcopy(model.graph)


def finish(graph: fx.GraphModule) -> fx.GraphModule:
    """Drop what the graph no longer uses, and regenerate its code."""
    from edgec.model.trace import remove_dead_code

    remove_dead_code(graph)
    graph.delete_all_unused_submodules()
    _drop_unused_tensors(graph)
    graph.graph.lint()
    graph.recompile()
    return graph.eval()


def _drop_unused_tensors(graph: fx.GraphModule) -> None:
    """Parameters and buffers that no node reads, of modules that only hold others."""
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    inside = {id(part) for name in called for part in graph.get_submodule(name).modules()}
    for path, module in graph.named_modules():
        if id(module) in inside:
            continue
        for name in (*module._parameters, *module._buffers):
            if f"{path}.{name}".lstrip(".") not in read:
                delattr(module, name)


def module_of(node: Any, graph: fx.GraphModule) -> torch.nn.Module | None:
    """The module that `node` calls, if it is a node that calls one."""
    if getattr(node, "op", "") != "call_module":
        return None
    return graph.get_submodule(str(node.target))


def torch_call(node: fx.Node) -> str:
    """Name of the method, or of torch's function, that a node calls; empty when it calls neither."""
    if node.op == "call_method":
        return str(node.target)
    home = getattr(node.target, "__module__", None) or "torch"  # torch's built-in functions have no module
    is_torch = node.op == "call_function" and home.startswith("torch")
    return str(getattr(node.target, "__name__", "")) if is_torch else ""


def call_counts(graph: fx.GraphModule) -> dict[str, int]:
    """Number of calls of each module: a module called twice cannot be changed for one caller."""
    return Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")


def add_module(graph: fx.GraphModule, stem: str, module: torch.nn.Module) -> str:
    """Add a submodule under a name near `stem` that is still free; returns the name.

    Args:
        graph: to add to.
        stem: wanted name.
        module: set to eval mode.
    """
    name = free_name(graph, stem)
    graph.add_submodule(name, module.eval())
    return name


def free_name(graph: fx.GraphModule, stem: str) -> str:
    """A path near `stem` at which `graph` has nothing."""
    held = (graph.named_modules(), graph.named_parameters(), graph.named_buffers())
    taken = {name for named in held for name, _ in named}
    name, number = stem, 0
    while name in taken or hasattr(graph, name):
        number += 1
        name = f"{stem}_{number}"
    return name


def bypass(node: fx.Node, source: fx.Node) -> None:
    """Let all users of `node` read `source`, and erase `node`."""
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)


def constant(value: Any, graph: fx.GraphModule) -> tuple[bool, Any]:
    """Whether an argument is the same in every inference, and its value.

    Parameters and buffers are constants, and so is what ops compute from constants alone (standardized weights).
    """
    import torch
    from torch import fx

    known: dict[fx.Node, Any] = {}

    def evaluate(node: fx.Node) -> bool:
        if node in known:
            return True
        if node.op == "get_attr":
            known[node] = attrgetter(str(node.target))(graph)
            return True
        sources = node.all_input_nodes
        # an op without inputs may be random; one with a trailing underscore changes its input
        pure = node.op in ("call_function", "call_method") and not str(node.target).endswith("_")
        if not pure or not sources or not all(evaluate(item) for item in sources):
            return False
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda item: known[item])
        with torch.no_grad():
            if node.op == "call_method":
                known[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            elif callable(node.target):
                known[node] = node.target(*args, **kwargs)
        return True

    nodes: list[fx.Node] = []
    fx.node.map_arg(value, lambda item: nodes.append(item) or item)  # type: ignore[func-returns-value]
    if not all(evaluate(node) for node in nodes):
        return False, None
    return True, fx.node.map_arg(value, lambda item: known[item])


def input_shapes(graph: fx.GraphModule, example: Sequence[torch.Tensor]) -> dict[fx.Node, tuple[int, ...]]:
    """Shape of every node whose value is one tensor."""
    return {node: value.shape for node, value in values_of(graph, example).items() if value.kind == "tensor"}


def checked(name: str, before: FloatModel, graph: fx.GraphModule) -> FloatModel:
    """`before` with `graph`, once both are seen to give the same outputs on a made-up sample.

    Args:
        name: of the pass, for the message.
        before: the model with its graph.
        graph: the changed graph.

    Raises:
        PassError: they do not.
    """
    import torch

    assert before.graph is not None
    sample = sample_tensors(before.inputs, seed=2)
    run: Callable[[fx.GraphModule], list[torch.Tensor]] = lambda item: tensors_of(  # noqa: E731
        item(*[one.clone() for one in sample])
    )
    with torch.no_grad():
        if not close(run(graph), run(before.graph), tolerance=1e-3):
            raise PassError("the rewritten graph computes something else", where=name)
    return before.with_graph(graph, same_function=True)
