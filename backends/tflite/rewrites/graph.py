"""Reading and editing an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.model.spec import Array


class Graph:
    """A model's main graph, with what rewrites ask of it. Shapes are those that were inferred before the rewrites."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.proto = model.graph
        self._constants = {item.name: item for item in self.proto.initializer}
        values = (*self.proto.input, *self.proto.value_info, *self.proto.output)
        self._types = {item.name: item.type.tensor_type for item in values}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.outputs = {item.name for item in self.proto.output}
        self._used = {name for node in self.proto.node for name in (*node.input, *node.output)} | set(self._constants)

    def nodes(self, *kinds: str) -> list[Any]:
        """The nodes of these kinds, in order."""
        return [node for node in self.proto.node if node.op_type in kinds]

    def constant(self, name: str) -> Array | None:
        """The values of a constant; None: it is none."""
        from onnx import numpy_helper

        if name in self._constants:
            return np.asarray(numpy_helper.to_array(self._constants[name]))
        maker = self.maker(name)
        if maker is None or maker.op_type != "Constant":
            return None
        held = attribute(maker, "value", None)
        return None if held is None else np.asarray(numpy_helper.to_array(held))

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor where all of it is known."""
        if name in self._constants:
            return tuple(self._constants[name].dims)
        if name not in self._types or not self._types[name].HasField("shape"):
            return None
        dims = self._types[name].shape.dim
        return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None

    def maker(self, name: str) -> Any:
        """The node that makes a tensor; None: an input or a constant."""
        return next((node for node in self.proto.node if name in node.output), None) if name else None

    def readers(self, name: str) -> list[Any]:
        """The nodes that read a tensor."""
        return [node for node in self.proto.node if name in node.input]

    def is_read(self, name: str) -> bool:
        """Whether anything needs a tensor."""
        return bool(name) and (name in self.outputs or bool(self.readers(name)))

    def fresh(self, stem: str) -> str:
        """A tensor name that is not used yet."""
        name, number = stem, 2
        while name in self._used:
            name, number = f"{stem}_{number}", number + 1
        self._used.add(name)
        return name

    def add_constant(self, stem: str, values: Array) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = self.fresh(stem)
        # not ``ascontiguousarray``, which gives a scalar an axis
        self.hold(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def hold(self, tensor: Any) -> None:
        """Add a constant that is a tensor of ONNX already."""
        self.proto.initializer.append(tensor)
        self._constants[tensor.name] = self.proto.initializer[-1]

    def shared_constant(self, stem: str, values: Array) -> str:
        """Add a constant, or find the one with these values that was added before."""
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._shared:
            self._shared[key] = self.add_constant(stem, values)
        return self._shared[key]

    def replace(self, node: Any, by: Sequence[Any]) -> None:
        """Put nodes in the place of one."""
        place = next(number for number, item in enumerate(self.proto.node) if item is node)
        self.proto.node.remove(node)
        for offset, item in enumerate(by):
            self.proto.node.insert(place + offset, item)

    def insert_after(self, node: Any, added: Sequence[Any]) -> None:
        """Put nodes behind one."""
        place = next(number for number, item in enumerate(self.proto.node) if item is node)
        for offset, item in enumerate(added):
            self.proto.node.insert(place + 1 + offset, item)

    def slice(self, source: str, starts: Sequence[int], ends: Sequence[int], made: str) -> Any:
        """A node that cuts `source` along its first axes.

        Args:
            source: name of a tensor.
            starts: first index of each axis.
            ends: index after the last of each axis.
            made: name of the result and of the node.
        """
        import onnx

        axes = list(range(len(starts)))
        if self.opset < 10:
            kept: dict[str, Any] = {"starts": list(starts), "ends": list(ends), "axes": axes}
            return onnx.helper.make_node("Slice", [source], [made], name=made, **kept)
        bounds = [
            self.add_constant(f"{made}_{k}", np.array(v, np.int64))
            for k, v in zip("sea", (starts, ends, axes), strict=True)
        ]
        return onnx.helper.make_node("Slice", [source, *bounds], [made], name=made)

    def reshape(self, source: str, shape: Sequence[int], made: str) -> Any:
        """A node that gives `source` another shape.

        Args:
            source: name of a tensor.
            shape: new shape.
            made: name of the result and of the node.
        """
        import onnx

        size = self.add_constant(f"{made}_shape", np.array(shape, np.int64))
        return onnx.helper.make_node("Reshape", [source, size], [made], name=made)

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return int(next(item.version for item in self.model.opset_import if item.domain in ("", "ai.onnx")))


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of an attribute, strings as text.

    Args:
        node: of an ONNX graph.
        name: of the attribute.
        default: its value where the node does not state it.
    """
    import onnx

    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default
