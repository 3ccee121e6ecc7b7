"""Recording torch calls as an FX graph while they are evaluated on one example."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.utils.weak import WeakTensorKeyDictionary


class Recorded(fx.Proxy):
    """A value that depends on the model's inputs. Shapes are fixed, so shape and dtype are those of the example."""

    example: Any
    """Its value for the example input: a tensor, or a tuple of tensors."""

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor."""
        size: torch.Size = self.example.shape
        return size

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the tensor."""
        kind: torch.dtype = self.example.dtype
        return kind

    @property
    def ndim(self) -> int:
        """Rank of the tensor."""
        return len(self.example.shape)


Value = Any
"""A value between converters: a tensor (constant), a `Recorded`, a list of these (a sequence), or None (absent)."""


class Recorder(fx.Tracer):
    """An FX graph that grows with each torch call on a `Recorded`; constants and layers go into `root`."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Module()
        self.graph = fx.Graph()
        self._constants: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self._names: Any = WeakTensorKeyDictionary()
        self._layers: dict[int, tuple[nn.Module, str]] = {}
        self._storages: set[int] = set()

    def placeholder(self, name: str, example: torch.Tensor) -> Recorded:
        """An input of the graph."""
        recorded = Recorded(self.graph.placeholder(identifier(name)), self)
        recorded.example = example
        return recorded

    def name_constant(self, tensor: torch.Tensor, name: str) -> None:
        """Name `tensor`, for when the graph holds it."""
        self._names[tensor] = name

    def layer(self, name: str, module: nn.Module, *arguments: Value) -> Value:
        """Call `module`, as a layer of the graph named like `name` unless all arguments are constants."""
        module = module.eval()
        if not any(isinstance(item, Recorded) for item in arguments):
            return module(*arguments)
        return self.create_proxy("call_module", self._add_module(name, module), arguments, {})

    def parameter(self, tensor: torch.Tensor) -> nn.Parameter:
        """A parameter of this value."""
        return nn.Parameter(self._own(tensor.detach().contiguous()))

    def finished(self, outputs: list[Value]) -> fx.GraphModule:
        """The graph that returns `outputs`: one tensor, or a tuple."""
        nodes = [self.create_arg(item) for item in outputs]
        self.graph.output(nodes[0] if len(nodes) == 1 else tuple(nodes))
        graph = fx.GraphModule(self.root, self.graph, class_name="EdgecGraph")
        graph.graph._tracer_cls = None  # unpickling re-traces the generated code, which the stock tracer can do
        return graph.eval()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A `Recorded` for a new node."""
        return Recorded(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        """Add a node, and evaluate it on the example."""
        example = self._evaluated(kind, target, args, kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        assert isinstance(proxy, Recorded)
        proxy.example = example
        return proxy

    def create_arg(self, a: Any) -> Any:
        """As FX does; a constant tensor becomes a named buffer."""
        return self._constant(a) if isinstance(a, torch.Tensor) else super().create_arg(a)

    def iter(self, obj: fx.Proxy) -> Any:
        """Iterate over the parts of a tuple."""
        assert isinstance(obj, Recorded)
        return (operator.getitem(obj, index) for index in range(len(obj.example)))

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Raises TraceError: the graph cannot branch on data."""
        raise fx.proxy.TraceError("it would branch on the model's input")

    def _evaluated(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        known: Callable[[Any], Any] = lambda item: item.example if isinstance(item, Recorded) else item  # noqa: E731
        args, kwargs = fx.node.map_aggregate((args, kwargs), known)
        if kind == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    def _constant(self, tensor: torch.Tensor) -> fx.Node:
        if id(tensor) not in self._constants:
            name = self._free_name(identifier(self._names.get(tensor, "constant")))
            self.root.register_buffer(name, self._own(tensor))
            # the tensor is kept, so that no other one gets its id
            self._constants[id(tensor)] = tensor, self.graph.get_attr(name)
        return self._constants[id(tensor)][1]

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` in memory that nothing else of the graph has: passes change weights in place."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._storages or storage.nbytes() > tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
            storage = tensor.untyped_storage()
        self._storages.add(storage.data_ptr())
        return tensor

    def _add_module(self, name: str, module: nn.Module) -> str:
        """The path of `module` in `root`: near `name`, or where it is already."""
        if id(module) in self._layers:
            return self._layers[id(module)][1]
        *parents, leaf = (identifier(part) for part in name.split("."))
        place, path = self.root, []
        for part in parents:
            # no path leads through a layer or a constant
            part = _free(part, lambda item: hasattr(place, item) and type(getattr(place, item)) is not nn.Module)  # noqa: B023
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
            path.append(part)
        leaf = _free(leaf, lambda item: hasattr(place, item))
        place.add_module(leaf, module)
        path_name = ".".join([*path, leaf])
        self._layers[id(module)] = module, path_name
        return path_name

    def _free_name(self, name: str) -> str:
        return _free(name, lambda item: hasattr(self.root, item))


def _free(name: str, taken: Callable[[str], bool]) -> str:
    free, number = name, 0
    while taken(free):
        number += 1
        free = f"{name}_{number}"
    return free


def identifier(name: str) -> str:
    """`name` with underscores for signs that Python names lack; it may begin with a digit, as parts of paths do."""
    return re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "value"
