"""The FX graph of a module at a fixed input shape, or the reason why it cannot be captured."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.model.outputs import tensors_like, tensors_of
from edgec.model.samples import close

if TYPE_CHECKING:
    import torch
    from torch import fx


NOT_DETERMINISTIC = "the model is not deterministic: the same input gives another output"
KEEPS_STATE = "the model keeps state: a run changes its parameters or buffers"
NO_FUNCTION = (NOT_DETERMINISTIC, KEEPS_STATE)
"""Reasons for which no other way to a graph is right either."""
_IMPORTABLE = frozenset({"torch", "_operator", "operator", "builtins", "math", "edgec"})
"""Packages that a worker process has, where a graph is run; those of the user's code it has not."""
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
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    second: Sequence[torch.Tensor] | None = None,
    call: Call | None = None,
) -> Traced:
    """Capture `module` as a graph whose leaves are plain ``torch.nn`` modules; `module` itself is left untouched.

    Args:
        module: in eval mode.
        example: one sample, in call order; the graph is valid for its shapes.
        second: another sample of the same shapes, on which graph and module must agree too.
        call: how the inputs are passed; None: by position.

    Returns:
        The graph (it returns one tensor or a flat tuple), checked against `module`; or the reason there is none,
        with file, line and text of the user's code where that is the cause.
    """
    from edgec.model.static_tracer import COMPOSITES

    call = call or Call()
    if any(type(part) in COMPOSITES for part in module.modules()):
        # the parts can be quantized, where a composite stays whole; but masks may take a path that has no graph
        opened = _trace(module, example, second, call, whole_composites=False)
        if opened.graph is not None:
            return opened
    return _trace(module, example, second, call, whole_composites=True)


@dataclass(frozen=True)
class Call:
    """How a module is called: the last inputs by name, those before them by position."""

    names: tuple[str, ...] = ()

    def __call__(self, module: Any, inputs: Sequence[Any]) -> Any:
        """The result of `module` for `inputs`."""
        first = len(inputs) - len(self.names)
        return module(*inputs[:first], **dict(zip(self.names, inputs[first:], strict=True)))

    def parameters(self, module: torch.nn.Module, count: int) -> list[str]:
        """Names of the parameters that `count` inputs are passed as, generated where it has no names."""
        given = [
            item.name
            for item in inspect.signature(module.forward).parameters.values()
            if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
        ]
        first = count - len(self.names)
        return [given[at] if at < len(given) else f"input_{at}" for at in range(first)] + list(self.names)


def _trace(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    second: Sequence[torch.Tensor] | None,
    call: Call,
    *,
    whole_composites: bool,
) -> Traced:
    import torch

    with torch.no_grad():
        try:
            graph = _capture(module, example, call, concrete_shapes=False, whole_composites=whole_composites)
        except Exception as exc:
            try:
                graph = _capture(module, example, call, concrete_shapes=True, whole_composites=whole_composites)
            except Exception:
                return Traced(None, explain(exc))
        if foreign := _foreign(graph):
            return Traced(None, f"it calls {foreign}, which only the model's own code defines")
        before = {name: value.clone() for name, value in graph.state_dict().items()}
        for sample in (example, second) if second is not None else (example,):
            try:
                ours = tensors_of(graph(*[item.clone() for item in sample]))
            except Exception as exc:
                return Traced(None, f"the traced graph fails where the module does not: {_first_line(exc)}")
            theirs = tensors_of(call(module, [item.clone() for item in sample]))
            if not close(ours, theirs):
                if not close(tensors_of(call(module, [item.clone() for item in sample])), theirs):
                    return Traced(None, NOT_DETERMINISTIC)
                return Traced(
                    None, "the traced graph computes something else: the code branches on data, or keeps state"
                )
        if any(not torch.equal(value, before[name]) for name, value in graph.state_dict().items()):
            return Traced(None, KEEPS_STATE)
    return Traced(graph)


def _capture(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    call: Call,
    *,
    concrete_shapes: bool,
    whole_composites: bool,
) -> fx.GraphModule:
    from torch import fx

    from edgec.model.static_tracer import StaticTracer

    module = copy.deepcopy(module)  # tracing runs the user's code, and the graph shares its parameters
    result = call(module, [item.clone() for item in example])

    def run(root: torch.nn.Module, inputs: Sequence[Any]) -> Any:
        hooked = root._forward_hooks or root._forward_pre_hooks
        captured = tensors_like(call(root if hooked else root.forward, inputs), result)
        return captured[0] if len(captured) == 1 else tuple(captured)

    names = call.parameters(module, len(example))
    tracer = StaticTracer(example, run, names, concrete_shapes=concrete_shapes, whole_composites=whole_composites)
    graph = tracer.trace(module)
    graph._tracer_cls = None  # unpickling re-traces the generated code, which the stock tracer can do
    for node in graph.nodes:
        node.type = None  # annotations of the user's code, which cannot be pickled when they are text (PEP 563)
    _copy_written_constants(graph)
    traced = fx.GraphModule(module, graph, class_name="EdgecGraph")
    _drop_training_hooks(traced)
    remove_dead_code(traced)
    _unshare_stateless(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()
    return traced


def _foreign(graph: fx.GraphModule) -> str:
    """A function or module of the graph that another process could not import; empty when there is not any."""
    for node in graph.graph.nodes:
        if node.op == "call_function":
            owner = getattr(node.target, "__module__", None) or type(node.target).__module__
            if owner.partition(".")[0] not in _IMPORTABLE:
                return f"{owner}.{getattr(node.target, '__qualname__', node.target)}"
    for name, part in graph.named_modules():
        if name and type(part).__module__.partition(".")[0] not in _IMPORTABLE:
            return f"{type(part).__module__}.{type(part).__qualname__}"
    return ""


def _drop_training_hooks(graph: fx.GraphModule) -> None:
    """Drop hooks of loading, saving and gradients: local functions among them cannot be pickled."""
    for part in graph.modules():
        for name, hooks in vars(part).items():
            if name.startswith("_") and name.endswith("hooks") and "forward" not in name and hooks:
                hooks.clear()


def remove_dead_code(graph: fx.GraphModule) -> None:
    """Erase nodes whose result is not read, but not those that change a tensor in place."""
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


def _unshare_stateless(graph: fx.GraphModule) -> None:
    """Give each call of a module without parameters or buffers its own copy: observers are kept by module."""
    seen: dict[str, int] = {}
    taken = {name for name, _ in graph.named_modules(remove_duplicate=False)}
    for node in graph.graph.nodes:
        if node.op != "call_module":
            continue
        target = str(node.target)
        module = graph.get_submodule(target)
        count = seen[target] = seen.get(target, -1) + 1
        if count == 0 or any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
            continue
        name = f"{target}_{count}"
        while name in taken:
            name += "_"
        taken.add(name)
        graph.add_submodule(name, copy.deepcopy(module))
        node.target = name


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
