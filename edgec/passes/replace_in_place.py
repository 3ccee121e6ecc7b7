"""Ops that change a tensor in place as ops that make another one: quantizers and corrections look at values by node."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import GraphPass, checked, finish, module_of, own_graph
from edgec.passes.node_values import Value, values_of

if TYPE_CHECKING:
    import torch
    from torch import fx

_VIEWS = frozenset(
    {"getitem", "view", "reshape", "flatten", "unflatten", "transpose", "permute", "t", "squeeze", "unsqueeze"}
    | {"expand", "narrow", "select", "chunk", "split", "unbind", "contiguous", "detach", "movedim", "swapaxes"}
    | {"view_as", "diagonal", "unfold", "expand_as", "float", "to", "type_as", "real", "split_with_sizes"}
    | {"tensor_split", "getattr"}
)
"""Names of functions and methods whose result may share memory with their first argument."""
_VIEW_MODULES = ("Flatten", "Unflatten", "Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d")


@dataclass(frozen=True)
class ReplaceInPlaceOps(GraphPass):
    """Let readers of a changed tensor read the result of the op that changed it.

    A change that other views of the same memory show is left as it is, and recorded.
    """

    name: ClassVar[str] = "replace-in-place-ops"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Replace each op whose tensor is read under one name only from there on."""
        graph = own_graph(model)
        values = values_of(graph, sample_tensors(model.inputs, seed=0))
        replaced, coverage = 0, []
        for node in [item for item in graph.graph.nodes if writes(item, graph)]:
            source: Any = node.args[0] if node.args else None
            if source not in values or not _replace(node, source, graph, values):
                reason = "other names of the same memory show what it changes"
                coverage.append(Coverage(subject=node.name, state="in place", reason=reason))
                continue
            replaced += 1
        if not replaced:
            return PassResult(model, "replaced 0 ops in place", tuple(coverage))
        summary = f"replaced {replaced} ops in place"
        return PassResult(checked(self.name, model, finish(graph)), summary, tuple(coverage))


def writes(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether a call changes its first argument."""
    if node.op == "call_module":
        return bool(getattr(module_of(node, graph), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name.endswith("_") and not name.endswith("__"):
        return True
    return node.target in _operators() or node.target is operator.setitem or _inplace_place(node) is not None


def written(graph: fx.GraphModule) -> set[fx.Node]:
    """Nodes that make, view or read a tensor which some op changes in place."""
    roots = {_root(node.args[0], graph) for node in graph.graph.nodes if writes(node, graph) and node.args}
    group = {node for node in graph.graph.nodes if _root(node, graph) in roots}
    return group | {user for node in group for user in node.users}


def set_item(tensor: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """A copy of `tensor` with other values at `index`."""
    result = tensor.clone()
    result[index] = value
    return result


def _replace(node: fx.Node, source: fx.Node, graph: fx.GraphModule, values: dict[fx.Node, Value]) -> bool:
    """Make `node` an op that leaves its first argument alone, in place, if later readers allow that."""
    order = {item: place for place, item in enumerate(graph.graph.nodes)}
    root = _root(source, graph)
    later = [item for item in order if order[item] > order[node]]
    for item in later:
        shown = [read for read in item.all_input_nodes if _root(read, graph) is root]
        if any(read not in (source, node) and order[read] < order[node] for read in shown):
            return False
    others = [values[item] for item in node.all_input_nodes if item in values]
    if any(value.kind == "tensor" and value.dtype != values[source].dtype for value in others):
        return False  # the result would have another dtype
    if not _out_of_place(node, graph):
        return False
    for item in later:
        item.replace_input_with(source, node)
    return True


def _out_of_place(node: fx.Node, graph: fx.GraphModule) -> bool:
    import torch

    if node.op == "call_module":
        module: Any = module_of(node, graph)
        module.inplace = False
        return True
    place = _inplace_place(node)
    if place is not None:
        if "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
        else:
            node.args = (*node.args[:place], False, *node.args[place + 1 :])
        return True
    if node.target is operator.setitem:
        node.target = set_item
        return True
    if node.target in _operators():
        node.target = _operators()[node.target]
        return True
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", "")).rstrip("_")
    homes = (torch.Tensor,) if node.op == "call_method" else (torch, torch.nn.functional)
    function = next((getattr(home, name) for home in homes if hasattr(home, name)), None)
    if not callable(function):
        return False  # x.fill_(0) and the like
    node.target = name if node.op == "call_method" else function
    return True


def _inplace_place(node: fx.Node) -> int | None:
    """Where a function takes ``inplace``, if it is given and true."""
    if node.op != "call_function" or not str(getattr(node.target, "__module__", "")).startswith("torch"):
        return None
    if node.kwargs.get("inplace"):
        return len(node.args)
    if not any(item is True for item in node.args):
        return None
    try:
        names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    place = names.index("inplace") if "inplace" in names else len(node.args)
    return place if place < len(node.args) and node.args[place] is True else None


def _root(node: Any, graph: fx.GraphModule) -> Any:
    """The node that made the memory which `node` may be a view of."""
    while True:
        if not getattr(node, "args", ()) or not hasattr(node.args[0], "op"):
            return node
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        module = module_of(node, graph)
        view = type(module).__name__ in _VIEW_MODULES if module is not None else name in _VIEWS
        if not view and not writes(node, graph):
            return node
        node = node.args[0]


@cache
def _operators() -> dict[Any, Callable[..., Any]]:
    names = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
    plain = {name: getattr(operator, f"{name}_" if name in ("and", "or") else name) for name in names}
    return {getattr(operator, f"i{name}"): function for name, function in plain.items()}
