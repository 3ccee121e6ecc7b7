"""The FX graph of a module at a fixed input shape, or why there is none."""

from __future__ import annotations

import copy
import operator
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.model.outputs import tensors_of
from edgec.model.samples import close

if TYPE_CHECKING:
    import torch
    from torch import fx

    from edgec.model.static_tracer import StaticTracer


_WRITING = frozenset(
    {"setitem", "setattr", *(f"i{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "pow"))}
)
"""Names of operators that change their first operand."""


@dataclass(frozen=True)
class Traced:
    """Exactly one of the two is there."""

    graph: fx.GraphModule | None
    untraceable: str = ""


def trace(
    module: torch.nn.Module, example: Sequence[torch.Tensor], second: Sequence[torch.Tensor] | None = None
) -> Traced:
    """Capture `module` as a graph whose leaves are plain ``torch.nn`` modules; `module` itself is left untouched.

    Args:
        module: in eval mode.
        example: one sample, in call order; the graph is valid for its shapes.
        second: another sample of the same shapes, on which graph and module must agree too.

    Returns:
        The graph (it returns one tensor or a flat tuple), checked against `module`; or the reason there is none,
        with file, line and text of the user's code where that is the cause.
    """
    from edgec.model.static_tracer import COMPOSITES

    if any(type(part) in COMPOSITES for part in module.modules()):
        # the parts can be quantized, where a composite stays whole; but masks may take a path that has no graph
        opened = _trace(module, example, second, whole_composites=False)
        if opened.graph is not None:
            return opened
    return _trace(module, example, second, whole_composites=True)


def _trace(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    second: Sequence[torch.Tensor] | None,
    *,
    whole_composites: bool,
) -> Traced:
    import torch

    from edgec.model.static_tracer import StaticTracer

    with torch.no_grad():
        try:
            graph = _capture(module, example, StaticTracer(example, whole_composites=whole_composites))
        except Exception as exc:
            try:
                tracer = StaticTracer(example, concrete_shapes=True, whole_composites=whole_composites)
                graph = _capture(module, example, tracer)
            except Exception:
                return Traced(None, explain(exc))
        before = {name: value.clone() for name, value in graph.state_dict().items()}
        for sample in (example, second) if second is not None else (example,):
            try:
                ours = tensors_of(graph(*[item.clone() for item in sample]))
            except Exception as exc:
                return Traced(None, f"the traced graph fails where the module does not: {_first_line(exc)}")
            theirs = tensors_of(module(*[item.clone() for item in sample]))
            if not close(ours, theirs):
                if not close(tensors_of(module(*[item.clone() for item in sample])), theirs):
                    return Traced(None, "the model is not deterministic: the same input gives another output")
                return Traced(
                    None, "the traced graph computes something else: the code branches on data, or keeps state"
                )
        if any(not torch.equal(value, before[name]) for name, value in graph.state_dict().items()):
            return Traced(None, "the model keeps state: a run changes its parameters or buffers")
    return Traced(graph)


def _capture(module: torch.nn.Module, example: Sequence[torch.Tensor], tracer: StaticTracer) -> fx.GraphModule:
    import inspect

    from torch import fx

    module = copy.deepcopy(module)  # tracing runs the user's code, and the graph shares its parameters
    result = module(*[item.clone() for item in example])
    parameters = list(inspect.signature(module.forward).parameters.values())
    named = [item for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
    unused = {item.name: item.default for item in named[len(example) :] if item.default is not item.empty}
    graph = tracer.trace(module, concrete_args=unused or None)
    graph._tracer_cls = None  # unpickling re-traces the generated code, which the stock tracer can do
    for node in graph.nodes:
        node.type = None  # annotations of the user's code, which cannot be pickled when they are text (PEP 563)
    _drop_placeholders(graph, len(example))
    _copy_written_constants(graph)
    _flatten_output(graph, result)
    traced = fx.GraphModule(module, graph, class_name="EdgecGraph")
    remove_dead_code(traced)
    _unshare_stateless(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()
    return traced


def remove_dead_code(graph: fx.GraphModule) -> None:
    """Erase nodes whose result nobody reads, but not those that change a tensor in place."""
    graph.graph.eliminate_dead_code(is_impure_node=lambda node: _has_effect(node, graph))


def _has_effect(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether a node whose result is unused still matters: FX itself does not know about in-place tensor ops."""
    if node.op in ("placeholder", "output"):
        return True
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    return _writes(node)


def _writes(node: fx.Node) -> bool:
    """Whether a call changes a tensor it is given."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name.endswith("_") and not name.endswith("__"):
        return True
    return name.strip("_") in _WRITING or bool(node.kwargs.get("inplace")) or "out" in node.kwargs


def _copy_written_constants(graph: fx.Graph) -> None:
    """Let code that fills a new tensor (torch.zeros) fill a new one in each run: FX makes it a constant."""
    first: dict[str, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "get_attr" or not str(node.target).startswith("_tensor_constant"):
            continue
        if node.target in first:
            node.replace_all_uses_with(first[node.target])
            graph.erase_node(node)
        else:
            first[str(node.target)] = node
    for node in first.values():
        if any(_writes(user) and user.args[:1] == (node,) for user in node.users):
            with graph.inserting_after(node):
                copied = graph.call_method("clone", (node,))
            for user in [item for item in node.users if item is not copied]:
                user.replace_input_with(node, copied)


def _drop_placeholders(graph: fx.Graph, keep: int) -> None:
    """Remove the placeholders of arguments that are left at their defaults (FX bakes their values in)."""
    for node in [item for item in graph.nodes if item.op == "placeholder"][keep:]:
        for user in list(node.users):  # only FX's own assertions on the baked value
            graph.erase_node(user)
        graph.erase_node(node)


def _flatten_output(graph: fx.Graph, result: Any) -> None:
    """Make the graph return one tensor or a flat tuple, picking parts out of nested results (`result` shows how)."""
    output = next(node for node in graph.nodes if node.op == "output")
    found: list[Any] = []

    def collect(part: Any, value: Any) -> None:
        import torch
        from torch import fx

        if isinstance(value, torch.Tensor):
            found.append(part)
        elif isinstance(value, dict) or (hasattr(value, "items") and not isinstance(value, (tuple, list))):
            for key, item in value.items():
                collect(
                    graph.call_function(operator.getitem, (part, key)) if isinstance(part, fx.Node) else part[key], item
                )
        elif isinstance(value, (tuple, list)):
            for index, item in enumerate(value):
                if item is not None:
                    picked = (
                        graph.call_function(operator.getitem, (part, index))
                        if isinstance(part, fx.Node)
                        else part[index]
                    )
                    collect(picked, item)

    with graph.inserting_before(output):
        collect(output.args[0], result)
    output.args = (found[0] if len(found) == 1 else tuple(found),)


def _unshare_stateless(graph: fx.GraphModule) -> None:
    """Give each call of a module without parameters or buffers its own copy: observers are kept by module."""
    seen: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op != "call_module":
            continue
        target = str(node.target)
        module = graph.get_submodule(target)
        count = seen[target] = seen.get(target, -1) + 1
        if count == 0 or any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
            continue
        name = f"{target}_{count}"
        while _has_submodule(graph, name):
            name += "_"
        graph.add_submodule(name, copy.deepcopy(module))
        node.target = name


def _has_submodule(graph: fx.GraphModule, name: str) -> bool:
    try:
        graph.get_submodule(name)
    except AttributeError:
        return False
    return True


def explain(exc: BaseException) -> str:
    """``model.py:12: `if x.sum() > 0:` (reason)``: the innermost line of the user's own code."""
    import torch

    inside = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = [item for item in traceback.extract_tb(exc.__traceback__) if not item.filename.startswith(inside)]
    frames = [item for item in frames if not item.filename.startswith("<")]
    reason = _first_line(exc)
    if not frames:
        return reason
    frame = frames[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}: `{(frame.line or '').strip()}` ({reason})"


def _first_line(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0] if text else type(exc).__name__
