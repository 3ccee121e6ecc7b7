"""A symbolic FX tracer for a fixed input shape.

Each node is also evaluated on one example while it is traced. Shapes, dtypes and what is computed from them alone
are thus known, so ``if x.shape[1] == 3``, ``range(x.size(2))`` and the like can be followed; values of tensors
are never used that way, so a branch on data still fails, as it must.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx

_SHAPE_ATTRIBUTES = frozenset(
    {"shape", "dtype", "device", "ndim", "is_cuda", "is_quantized", "is_sparse", "layout", "requires_grad", "names"}
    | {"is_nested"}
)
_SHAPE_METHODS = frozenset(
    {"size", "dim", "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_complex", "is_contiguous"}
    | {"get_device", "element_size", "__len__"}
)
_SHAPE_FUNCTIONS: frozenset[Any] = frozenset(
    {len, isinstance, torch.is_tensor, torch.is_floating_point, torch.is_complex, torch.numel}
)
COMPOSITES = frozenset(
    {
        torch.nn.Transformer,
        torch.nn.TransformerEncoder,
        torch.nn.TransformerEncoderLayer,
        torch.nn.TransformerDecoder,
        torch.nn.TransformerDecoderLayer,
    }
)
"""Classes of ``torch.nn`` whose forward calls layers that a backend can quantize one by one."""
_UNKNOWN = object()


class StaticProxy(fx.Proxy):
    """A proxy that turns into a number where its value follows from shapes alone."""

    def __getattr__(self, name: str) -> Any:
        if name in _SHAPE_ATTRIBUTES and (value := self._tracer().shape_attribute(self.node, name)) is not _UNKNOWN:
            return value
        return super().__getattr__(name)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __index__(self) -> int:
        return operator.index(self._static("an integer"))

    def __int__(self) -> int:
        return int(self._static("an integer"))

    def __float__(self) -> float:
        return float(self._static("a float"))

    def __len__(self) -> int:
        return self._tracer().length(self.node)

    def _static(self, what: str) -> Any:
        value = self._tracer().static_value(self.node)
        if value is _UNKNOWN:
            raise fx.proxy.TraceError(f"the value of a tensor is used as {what}")
        return value

    def _tracer(self) -> StaticTracer:
        assert isinstance(self.tracer, StaticTracer)
        return self.tracer


class StaticTracer(fx.Tracer):
    """Leaves are exactly the classes of ``torch.nn`` but `COMPOSITES`; subclasses of them are traced into.

    Args:
        example: one sample, in call order; its shapes are what the graph is valid for.
        run: calls the root with inputs in call order, and returns a flat tuple (or one tensor).
        names: of the placeholders, one for each input.
        concrete_shapes: write shapes as numbers, where a graph that computes them cannot be had: ``torch.zeros``
            and other native functions take no symbolic sizes.
        whole_composites: make leaves of `COMPOSITES` too.
    """

    def __init__(
        self,
        example: Sequence[torch.Tensor],
        run: Callable[[torch.nn.Module, Sequence[Any]], Any],
        names: Sequence[str],
        *,
        concrete_shapes: bool = False,
        whole_composites: bool = False,
    ) -> None:
        super().__init__()
        self._whole_composites = whole_composites
        self._concrete_shapes = concrete_shapes
        self._example = list(example)
        self._run = run
        self._names = tuple(names)
        self._values: dict[fx.Node, Any] = {}
        self._static: set[fx.Node] = set()
        self._evaluating = False

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """One placeholder for each input, whatever ``forward`` takes: Python itself fills in its defaults."""
        inputs = [self.create_proxy("placeholder", name, (), {}) for name in self._names]
        return lambda *proxies: self._run(self.root, proxies), inputs

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` is of a torch.nn class itself, no container, and nothing hooks into its calls."""
        if m is self.root or m._forward_hooks or m._forward_pre_hooks:
            return False
        if type(m) in COMPOSITES:
            return self._whole_composites
        containers = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
        return type(m).__module__.startswith("torch.nn.") and not isinstance(m, containers)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A proxy that knows the node's value where it is static."""
        return StaticProxy(node, self)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        """As FX does, or the value itself where shapes are to be numbers."""
        proxy = super().create_proxy(*args, **kwargs)
        if self._concrete_shapes and proxy.node in self._static:
            return self._values[proxy.node]
        return proxy

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Make the node and evaluate it on the example."""
        node = super().create_node(*args, **kwargs)
        if node.op != "output":
            self._evaluate(node)
        return node

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As FX does, except that real values are seen while a node is evaluated."""
        return attr_val if self._evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: torch.nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As FX does, except that a leaf being evaluated calls its own parts for real."""
        return forward(*args, **kwargs) if self._evaluating else super().call_module(m, forward, args, kwargs)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The truth value of a shape expression; a branch on data raises TraceError."""
        value = self.static_value(obj.node)
        return bool(value) if value is not _UNKNOWN else super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over a tuple of known length, or the first axis of a tensor."""
        if obj.node not in self._values:
            return super().iter(obj)
        return (operator.getitem(obj, index) for index in range(self.length(obj.node)))

    def length(self, node: fx.Node) -> int:
        """``len`` of the node's value: shapes are fixed, so it is known."""
        if node not in self._values:
            raise fx.proxy.TraceError("the length of this value is not known")
        return len(self._values[node])

    def static_value(self, node: fx.Node) -> Any:
        """The value of a node that depends on shapes alone, else a private marker."""
        return self._values[node] if node in self._static else _UNKNOWN

    def shape_attribute(self, node: fx.Node, name: str) -> Any:
        """``value.name`` when shapes are to be numbers, else a private marker."""
        known = self._concrete_shapes and isinstance(self._values.get(node), torch.Tensor)
        return getattr(self._values[node], name) if known else _UNKNOWN

    def _evaluate(self, node: fx.Node) -> None:
        if self._evaluating or any(argument not in self._values for argument in node.all_input_nodes):
            return
        self._evaluating = True
        try:
            with torch.no_grad():
                value = self._value(node)
        except Exception:
            return  # the value stays unknown: whatever needs it fails with the user's line
        finally:
            self._evaluating = False
        if value is _UNKNOWN:
            return
        self._values[node] = value
        if self._depends_on_shapes_only(node):
            self._static.add(node)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._example.pop(0) if self._example else _UNKNOWN
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda argument: self._values[argument])
        # in-place ops must not reach the values other nodes see
        args, kwargs = fx.node.map_aggregate((args, kwargs), _copy_tensor)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _depends_on_shapes_only(self, node: fx.Node) -> bool:
        if node.op == "call_function":
            if node.target is getattr:
                return node.args[1] in _SHAPE_ATTRIBUTES
            if node.target in _SHAPE_FUNCTIONS:
                return True
        if node.op == "call_method" and node.target in _SHAPE_METHODS:
            return True
        inputs = node.all_input_nodes
        return (
            node.op in ("call_function", "call_method")
            and bool(inputs)
            and all(argument in self._static for argument in inputs)
            and not isinstance(self._values[node], torch.Tensor)
        )


def _copy_tensor(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value
