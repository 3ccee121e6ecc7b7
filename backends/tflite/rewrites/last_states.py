"""The last hidden state of a recurrent op, taken from the sequence of all of them.

The direct converter gets the output Y_h of an LSTM wrong (-0.3 dB), and Y right.
"""

from __future__ import annotations

from typing import Any

from edgec.backends.tflite.rewrites.graph import Graph, attribute


def last_states(model: Any) -> int:
    """Make Y_h of each LSTM, GRU and RNN from Y, in place; return of how many.

    Y is [steps, directions, batch, hidden]; a reverse direction ends at the first step. Left alone is an op whose
    sequences have lengths of their own, and one of another layout.
    """
    import onnx

    graph = Graph(model)
    count = 0
    for node in graph.nodes("LSTM", "GRU", "RNN"):
        shape = graph.shape(node.input[0])
        own_lengths = len(node.input) > 4 and bool(node.input[4])
        if len(node.output) < 2 or not graph.is_read(node.output[1]) or shape is None:
            continue
        if own_lengths or attribute(node, "layout", 0):
            continue
        if not node.output[0]:
            node.output[0] = graph.fresh(f"{node.output[1]}_sequence")
        sequence, last = node.output[0], node.output[1]
        node.output[1] = ""
        while node.output and not node.output[-1]:
            del node.output[-1]
        direction = attribute(node, "direction", "forward")
        end = shape[0] - 1
        ends = {"forward": [(end, 0)], "reverse": [(0, 0)], "bidirectional": [(end, 0), (0, 1)]}[direction]
        size = attribute(node, "hidden_size", 0)
        made: list[Any] = []
        parts = []
        for step, place in ends:
            part = last if len(ends) == 1 else graph.fresh(f"{last}_{place}")
            row = graph.fresh(f"{last}_step")
            made.append(graph.slice(sequence, [step, place], [step + 1, place + 1], row))
            made.append(graph.reshape(row, [1, shape[1], size], part))
            parts.append(part)
        if len(parts) > 1:
            made.append(onnx.helper.make_node("Concat", parts, [last], axis=0, name=f"{last}_join"))
        graph.insert_after(node, made)
        count += 1
    return count
