"""Ranges that kernels insist on, on a program built by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.backends.tflite.kernel_ranges import fixed_ranges, widen_dead


def program(*ops: tuple[str, list[int], int], weight: float = 1.0) -> Any:
    """Ops over tensors 0 to 4; tensor 4 is a constant of `weight`."""
    model: Any = schema.ModelT()
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, model.operatorCodes = [], [], []
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(np.full(4, weight, np.float32).tobytes(), np.uint8)
    for index in range(5):
        tensor = schema.TensorT()
        tensor.type, tensor.buffer = schema.TensorType.FLOAT32, int(index == 4)
        graph.tensors.append(tensor)
    for kind, inputs, output in ops:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes) - 1, inputs, [output]
        graph.operators.append(operator)
    model.subgraphs = [graph]
    return model


def test_what_follows_a_fixed_scale_has_it_too() -> None:
    model = program(("TANH", [0], 1), ("MINIMUM", [1, 4], 2), ("ADD", [2, 4], 3))
    assert fixed_ranges(model) == {1: (-1.0, 127 / 128), 2: (-1.0, 127 / 128)}


def test_choices_between_two_activations_are_left_alone() -> None:
    assert set(fixed_ranges(program(("TANH", [0], 1), ("MAXIMUM", [1, 2], 3)))) == {1}


@pytest.mark.parametrize(("seen", "high"), [(0.0, 4.0 / 127), (1e-6, 4.0 / 127), (3.0, 3.0)])
def test_dead_products_span_two_steps_of_the_accumulator(seen: float, high: float) -> None:
    ranges: dict[int, tuple[float, float] | None] = {0: (0.0, 510.0), 1: (0.0, seen)}
    widen_dead(program(("FULLY_CONNECTED", [0, 4], 1)), ranges)
    assert ranges[1] == pytest.approx((0.0, high))


def test_other_dead_outputs_have_their_inputs_range() -> None:
    ranges: dict[int, tuple[float, float] | None] = {0: (-1.0, 2.0), 1: (0.0, 0.0), 2: None}
    widen_dead(program(("MUL", [0, 4], 1), ("MUL", [1, 4], 2)), ranges)
    assert ranges == {0: (-1.0, 2.0), 1: (0.0, 3.0), 2: None}
