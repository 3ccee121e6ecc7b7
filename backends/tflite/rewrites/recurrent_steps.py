"""Recurrent ops written out step by step, where TFLite has no fused op that computes the same.

TFLite has a fused LSTM without an initial state and without its last cell state as a result; it has no fused GRU. The
product with the inputs of all steps is made at once; what is left for each step is one product with the state, and the
gates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgec.backends.layer_names import layer_path, plain_name
from edgec.backends.tflite.rewrites.graph import Graph, attribute
from edgec.model.spec import Array
from edgec.passes.coverage import Coverage

_GATES = {"GRU": 3, "LSTM": 4}
MARK = "unrolled_step"
"""Begins the names of the nodes of each step."""


def recurrent_steps(model: Any) -> int:
    """Write out each GRU, and each LSTM whose states are given or asked for, in place; return how many."""
    graph = Graph(model)
    count = 0
    for node in graph.nodes("GRU", "LSTM"):
        if node.op_type == "LSTM" and not _states_matter(graph, node):
            continue
        cell = _Cell.of(graph, node)
        if cell is None:
            continue
        graph.replace(node, cell.write())
        count += 1
    return count


def written_out(model: Any) -> tuple[Coverage, ...]:
    """What `recurrent_steps` wrote out, each op with the number of ops that it has become."""
    sizes = Counter(node.name.split("/")[1] for node in model.graph.node if node.name.startswith(f"{MARK}/"))
    reason = "TFLite has no fused op that computes it (a GRU, or an LSTM whose states are given or asked for)"
    return tuple(
        Coverage(subject=name, state="unrolled", reason=f"to {size} ops: {reason}") for name, size in sizes.items()
    )


def _states_matter(graph: Graph, node: Any) -> bool:
    """Whether an LSTM starts from other than zero, or its last cell state is read."""
    given = [name for name in node.input[5:7] if name]
    zero = all((held := graph.constant(name)) is not None and not held.any() for name in given)
    return not zero or (len(node.output) > 2 and graph.is_read(node.output[2]))


@dataclass
class _Cell:
    """A recurrent op whose steps are to be written."""

    graph: Graph
    node: Any
    shape: tuple[int, ...]
    size: int
    weights: tuple[Array, Array, Array]
    nodes: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph, node: Any) -> _Cell | None:
        """The cell of a node; None: it has what is not written out (other activations, lengths, peepholes)."""
        inputs = [*node.input, *[""] * (8 - len(node.input))]
        shape = graph.shape(inputs[0])
        weights = [graph.constant(name) for name in inputs[1:3]]
        if shape is None or any(item is None for item in weights) or inputs[4] or inputs[7]:
            return None
        if attribute(node, "layout", 0) or attribute(node, "clip", 0.0) or attribute(node, "input_forget", 0):
            return None
        if (activations := attribute(node, "activations", None)) and not _default(node.op_type, activations):
            return None
        first, second = (np.asarray(item) for item in weights)
        size, gates = second.shape[2], _GATES[node.op_type]
        bias = graph.constant(inputs[3]) if inputs[3] else np.zeros((len(first), 2 * gates * size), np.float32)
        return None if bias is None else cls(graph, node, shape, size, (first, second, bias))

    def write(self) -> list[Any]:
        """All nodes, in order."""
        steps, batch, _ = self.shape
        direction = attribute(self.node, "direction", "forward")
        ends: list[list[str]] = []
        sequences = []
        for place in range(len(self.weights[0])):
            order = range(steps)
            backwards = direction == "reverse" or place == 1
            rows, states = self._direction(place, list(reversed(order)) if backwards else list(order))
            rows = list(reversed(rows)) if backwards else rows
            sequences.append(self._add("Concat", rows, axis=0) if len(rows) > 1 else rows[0])
            ends.append(states)
        outputs = [*self.node.output, "", "", ""][:3]
        if self.graph.is_read(outputs[0]):
            self._join(sequences, (steps, 1, batch, self.size), 1, outputs[0])
        for number, name in enumerate(outputs[1:]):
            if self.graph.is_read(name):
                self._join([states[number] for states in ends], (1, batch, self.size), 0, name)
        return self.nodes

    def _direction(self, place: int, order: list[int]) -> tuple[list[str], list[str]]:
        """Hidden states in the order computed, each [1, batch, size], and the last states, each [batch, size]."""
        steps, batch, width = self.shape
        first, second, bias = (item[place] for item in self.weights)
        gates = _GATES[self.node.op_type]
        half = gates * self.size
        fed, own = bias[:half], bias[half:].copy()
        if self.node.op_type == "LSTM" or not attribute(self.node, "linear_before_reset", 0):
            fed, own = fed + own, None
        else:  # only the candidate's own bias is gated
            fed = fed + np.concatenate([own[: 2 * self.size], np.zeros(self.size, own.dtype)])
            own = own[2 * self.size :]
        flat = self._reshape(self.node.input[0], [steps * batch, width])
        product = self._add("MatMul", [flat, self._constant("w", first.T)])
        given = self._reshape(self._add("Add", [product, self._constant("b", fed)]), [steps, batch * half])
        states = [self._initial(number, place, batch) for number in range(2 if self.node.op_type == "LSTM" else 1)]
        rows = []
        for step in order:
            part = self.graph.fresh(self._name("x"))
            self.nodes.append(self.graph.slice(given, [step], [step + 1], part))
            fed_step = self._reshape(part, [batch, half])
            if self.node.op_type == "LSTM":
                states = self._lstm(fed_step, states, second)
            else:
                states = [self._gru(fed_step, states[0], second, own)]
            rows.append(self._reshape(states[0], [1, batch, self.size]))
        return rows, states

    def _lstm(self, fed: str, states: list[str], second: Array) -> list[str]:
        hidden, cell = states
        total = self._add("Add", [fed, self._add("MatMul", [hidden, self._constant("r", second.T)])])
        into, out, forget, fresh = (self._part(total, number) for number in range(4))
        into, out, forget = (self._add("Sigmoid", [item]) for item in (into, out, forget))
        kept = self._add("Mul", [forget, cell])
        cell = self._add("Add", [kept, self._add("Mul", [into, self._add("Tanh", [fresh])])])
        return [self._add("Mul", [out, self._add("Tanh", [cell])]), cell]

    def _gru(self, fed: str, hidden: str, second: Array, own: Array | None) -> str:
        """One step; `own`: the bias of the candidate's product with the state, where the gate is applied after it."""
        size = self.size
        update_given, reset_given, fresh_given = (self._part(fed, number) for number in range(3))
        if own is None:
            gates = self._add("MatMul", [hidden, self._constant("r", second[: 2 * size].T)])
        else:
            gates = self._add("MatMul", [hidden, self._constant("r", second.T)])
        update = self._add("Sigmoid", [self._add("Add", [update_given, self._part(gates, 0)])])
        reset = self._add("Sigmoid", [self._add("Add", [reset_given, self._part(gates, 1)])])
        if own is None:
            product = self._add("Mul", [reset, hidden])
            product = self._add("MatMul", [product, self._constant("rh", second[2 * size :].T)])
        else:
            product = self._add("Mul", [reset, self._add("Add", [self._part(gates, 2), self._constant("bh", own)])])
        fresh = self._add("Tanh", [self._add("Add", [fresh_given, product])])
        # update * hidden + (1 - update) * fresh, with an op less
        return self._add("Add", [fresh, self._add("Mul", [update, self._add("Sub", [hidden, fresh])])])

    def _initial(self, number: int, place: int, batch: int) -> str:
        names = [*self.node.input, *[""] * 8][5:7]
        if not names[number]:
            return self._constant("zero", np.zeros((batch, self.size), np.float32))
        part = names[number]
        if len(self.weights[0]) > 1:
            part = self.graph.fresh(self._name("state"))
            self.nodes.append(self.graph.slice(names[number], [place], [place + 1], part))
        return self._reshape(part, [batch, self.size])

    def _join(self, parts: list[str], shape: tuple[int, ...], axis: int, name: str) -> None:
        import onnx

        shaped = [self._reshape(part, list(shape)) for part in parts]
        if len(shaped) == 1:
            self.nodes[-1].output[0] = name
        else:
            self.nodes.append(onnx.helper.make_node("Concat", shaped, [name], axis=axis, name=name))

    def _part(self, name: str, number: int) -> str:
        """The `number`-th gate of a row of gates (one row: the batch axis is first, so cut along the second)."""
        made = self.graph.fresh(self._name("gate"))
        low = number * self.size
        self.nodes.append(self.graph.slice(name, [0, low], [self.shape[1], low + self.size], made))
        return made

    def _reshape(self, source: str, shape: list[int]) -> str:
        made = self.graph.fresh(self._name("reshape"))
        self.nodes.append(self.graph.reshape(source, shape, made))
        return made

    def _constant(self, stem: str, values: Array) -> str:
        return self.graph.shared_constant(self._name(stem), np.asarray(values, np.float32))

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        import onnx

        made = self.graph.fresh(self._name(kind.lower()))
        self.nodes.append(onnx.helper.make_node(kind, inputs, [made], name=made, **attributes))
        return made

    def _name(self, stem: str) -> str:
        return f"{MARK}/{plain_name(layer_path(self.node.name, '', self.node.op_type))}/{stem}"


def _default(kind: str, activations: list[Any]) -> bool:
    names = [item.decode() if isinstance(item, bytes) else str(item) for item in activations]
    one = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[kind]
    return names in (one, one * 2)
