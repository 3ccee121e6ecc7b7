"""A bidirectional LSTM as two of one direction.

TensorFlow's quantizer cannot read TFLite's fused bidirectional op.
"""

from __future__ import annotations

from typing import Any

from edgec.backends.tflite.rewrites.graph import Graph, attribute


def split_directions(model: Any) -> int:
    """Split each bidirectional LSTM without given states, in place; return how many.

    Only the sequence may be read of it: `last_states` and `recurrent_steps` have gone before.
    """
    import onnx

    graph = Graph(model)
    count = 0
    for node in graph.nodes("LSTM"):
        weights = [graph.constant(name) for name in node.input[1:4]]
        given = [name for name in node.input[4:] if name and not _zero(graph, name)]
        read = [name for name in node.output[1:] if graph.is_read(name)]
        if attribute(node, "direction", "forward") != "bidirectional" or given or read:
            continue
        if (
            any(item is None for item in weights)
            or attribute(node, "layout", 0)
            or attribute(node, "activations", None)
        ):
            continue
        halves, made = [], []
        for place, direction in enumerate(("forward", "reverse")):
            parts = [
                graph.add_constant(f"{name}_{direction}", item[place : place + 1])
                for name, item in zip(node.input[1:4], weights, strict=False)
                if item is not None
            ]
            half = graph.fresh(f"{node.output[0]}_{direction}")
            halves.append(half)
            made.append(
                onnx.helper.make_node(
                    "LSTM",
                    [node.input[0], *parts],
                    [half],
                    name=f"{node.name}_{direction}",
                    direction=direction,
                    hidden_size=attribute(node, "hidden_size", 0),
                )
            )
        made.append(onnx.helper.make_node("Concat", halves, [node.output[0]], axis=1, name=f"{node.name}_join"))
        graph.replace(node, made)
        count += 1
    return count


def _zero(graph: Graph, name: str) -> bool:
    held = graph.constant(name)
    return held is not None and not held.any()
