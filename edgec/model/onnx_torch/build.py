"""Running an ONNX graph node by node on recorded values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from edgec.model.onnx_torch.call import Call, NoTorchFormError, as_dtype
from edgec.model.onnx_torch.fuse import fuse_biases
from edgec.model.onnx_torch.names import layer_name
from edgec.model.onnx_torch.recorder import Recorder, Value
from edgec.model.onnx_torch.refused import REFUSED
from edgec.model.onnx_torch.table import CONVERTERS

_STANDARD = ("", "ai.onnx")


def build_graph(proto: Any, example: Sequence[torch.Tensor]) -> fx.GraphModule:
    """The FX graph of an ONNX model.

    Args:
        proto: a ModelProto with all tensor data inside.
        example: one sample of its inputs, in order; the graph is valid for these shapes.

    Returns:
        A graph of torch functions and plain layers, in eval mode. What does not depend on the inputs is a constant.

    Raises:
        NoTorchFormError: with the op and the reason.
    """
    run = _Run(proto)
    with torch.no_grad():
        graph = run.recorder.finished(run.main(example))
    fuse_biases(graph)
    return graph


class _Run:
    """The values of one model while its nodes are run."""

    def __init__(self, proto: Any) -> None:
        self.recorder = Recorder()
        self._main = proto.graph
        self._opsets = {item.domain: item.version for item in proto.opset_import}
        self._constants: dict[tuple[int, str], tuple[Any, torch.Tensor]] = {}
        self._functions = {(item.domain, item.name): item for item in proto.functions}

    def main(self, example: Sequence[torch.Tensor]) -> list[Value]:
        """The values of the model's outputs."""
        graph = self._main
        held = {item.name for item in graph.initializer}
        fed = [item.name for item in graph.input if item.name not in held]
        recorded = {name: self.recorder.placeholder(name, tensor) for name, tensor in zip(fed, example, strict=True)}
        return self.body(graph, recorded, {}, self._opsets)

    def body(
        self, graph: Any, inputs: Mapping[str, Value], outer: Mapping[str, Value], opsets: Mapping[str, int]
    ) -> list[Value]:
        """The values of a graph's outputs, given those of its inputs and of the graph around it."""
        tensors = {item.name: item for item in graph.initializer}
        values: dict[str, Value] = {name: value for name, value in outer.items() if name not in tensors} | {**inputs}
        outputs = [item if isinstance(item, str) else item.name for item in graph.output]
        last = _last_reads(graph.node, outputs)

        def value_of(name: str) -> Value:
            if not name:
                return None
            if name in tensors and name not in values:
                values[name] = self._constant(tensors[name], graph)
            if name not in values:
                raise NoTorchFormError(f'nothing gives the value "{name}"')
            return values[name]

        for index, node in enumerate(graph.node):
            given = [value_of(name) for name in node.input]
            for inner in _captured(node):
                if inner in tensors:
                    value_of(inner)
            results = self._node(node, given, values, opsets)
            values.update((name, value) for name, value in zip(node.output, results, strict=False) if name)
            for name in last.get(index, ()):
                values.pop(name, None)  # and its example's memory
        return [value_of(name) for name in outputs]

    def _node(
        self, node: Any, given: Sequence[Value], values: Mapping[str, Value], opsets: Mapping[str, int]
    ) -> Sequence[Value]:
        where = f'{node.op_type} "{node.name}"' if node.name else node.op_type
        attributes = {item.name: _attribute(item) for item in node.attribute}
        if (node.domain, node.op_type) in self._functions:
            return self._function(self._functions[node.domain, node.op_type], given, attributes)
        converter = CONVERTERS.get(node.op_type) if node.domain in _STANDARD else None
        if converter is None:
            domain = f" of the domain {node.domain}" if node.domain not in _STANDARD else ""
            raise NoTorchFormError(REFUSED.get(node.op_type, f"edgec has no torch form of this op{domain}"), where)
        call = Call(
            op=node.op_type,
            name=layer_name(node),
            opset=max((opsets.get(item, 0) for item in _STANDARD), default=0),
            inputs=given,
            attributes=attributes,
            outputs=list(node.output),
            recorder=self.recorder,
            run_body=lambda graph, inputs: self.body(
                graph, dict(zip([item.name for item in graph.input], inputs, strict=False)), values, opsets
            ),
        )
        try:
            result = converter(call)
        except NoTorchFormError as exc:
            raise NoTorchFormError(exc.reason, exc.where or where) from exc
        except Exception as exc:
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise NoTorchFormError(f"torch does not take it: {reason}", where) from exc
        return result if isinstance(result, tuple) else (result,)

    def _function(self, function: Any, given: Sequence[Value], attributes: Mapping[str, Any]) -> Sequence[Value]:
        """A function of the model, run in place."""
        if function.attribute or function.attribute_proto:
            raise NoTorchFormError("functions with attributes are not converted", function.name)
        inputs = dict(zip(function.input, given, strict=False))
        inputs |= dict.fromkeys(list(function.input)[len(given) :])
        opsets = {item.domain: item.version for item in function.opset_import}
        return self.body(_FunctionBody(function), inputs, {}, opsets)

    def _constant(self, tensor: Any, graph: Any) -> torch.Tensor:
        """The tensor of an initializer of `graph`: one, however often a loop runs the graph."""
        if graph is self._main:
            return self._named(tensor)  # not kept: layers have their own copies
        key = id(graph), tensor.name
        if key not in self._constants:
            self._constants[key] = graph, self._named(tensor)  # while the graph is kept, no other one gets its id
        return self._constants[key][1]

    def _named(self, tensor: Any) -> torch.Tensor:
        named = to_tensor(tensor)
        self.recorder.name_constant(named, tensor.name)
        return named


class _FunctionBody:
    """A FunctionProto read like a GraphProto."""

    def __init__(self, function: Any) -> None:
        self.node, self.output = function.node, function.output
        self.input: Sequence[Any] = ()
        self.initializer: Sequence[Any] = ()


def to_tensor(tensor: Any) -> torch.Tensor:
    """A TensorProto as a torch tensor with its own memory.

    Raises:
        NoTorchFormError: torch has no such dtype.
    """
    import numpy as np
    from onnx import numpy_helper

    kind = as_dtype(tensor.data_type)
    array = numpy_helper.to_array(tensor)
    if kind == torch.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(kind)
    return torch.from_numpy(np.array(array, order="C"))


def _attribute(item: Any) -> Any:
    import onnx

    if item.ref_attr_name:
        raise NoTorchFormError(f'its attribute "{item.name}" is one of a function')
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [one.decode("utf-8", "replace") for one in value]
    return to_tensor(value) if item.type == onnx.AttributeProto.TENSOR else value


def _captured(node: Any) -> set[str]:
    """Names that the graphs in a node's attributes read from around it, and some of their own."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            names |= {item.name for item in graph.output}
            for inner in graph.node:
                names |= {*inner.input, *_captured(inner)}
    return names


def _last_reads(nodes: Sequence[Any], outputs: Sequence[str]) -> dict[int, list[str]]:
    """For each node, by its index, the values that nothing reads after it."""
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in {*node.input, *_captured(node), *node.output}:
            last[name] = index
    names_by_node: dict[int, list[str]] = {}
    for name, index in last.items():
        if name and name not in outputs:
            names_by_node.setdefault(index, []).append(name)
    return names_by_node
