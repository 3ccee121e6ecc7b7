"""nn.MultiheadAttention: projections in int8 where the module can be opened, all of it in float where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgec.model.outputs import tensors_of
from edgec.target.spec import Target

Compile = Callable[[str, Target], Any]
MakeTarget = Callable[..., Target]
BOTH = pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
PARTS = ("query_projection", "key_projection", "value_projection", "out_proj")


@BOTH
@pytest.mark.parametrize(("precision", "kernel"), [("int8", "linear"), ("int8-dynamic", "linear_dynamic")])
def test_projections_are_quantized(
    compiled: Compile, make_target: MakeTarget, backend: str, precision: str, kernel: str
) -> None:
    made = compiled("cross", make_target(backend, precision))
    assert made.sqnr_db() > 25
    ops = list(made.runner().ops())
    assert sum(op.op.startswith(f"quantized::{kernel}") for op in ops) == 2 * (4 + 2)
    assert "linear" not in {op.op for op in ops}
    left = {op.reason for op in ops if op.op == "scaled_dot_product_attention"}
    assert left == {"torch has no quantized kernel of attention; its projections are layers of their own"}


def test_parts_are_layers_under_the_attentions_own_path(ready: Any, make_target: MakeTarget) -> None:
    model = ready("cross", make_target("qnnpack"))
    names = {f"attend.{part}" for part in PARTS}
    assert names <= set(dict(model.lowered.graph.named_modules()))
    for sample, wanted in zip(model.samples, model.expected, strict=True):
        with torch.no_grad():
            (found,) = tensors_of(model.lowered.graph(torch.from_numpy(sample["x"])))
        torch.testing.assert_close(found, torch.from_numpy(wanted["output_0"]), rtol=1e-4, atol=1e-5)


def test_float_artifacts_keep_attention_whole(ready: Any, make_target: MakeTarget) -> None:
    graph = ready("cross", make_target("qnnpack", "fp32")).lowered.graph
    assert isinstance(graph.get_submodule("attend"), torch.nn.MultiheadAttention)


@BOTH
def test_attention_whose_weights_are_read_stays_in_float_with_a_reason(
    compiled: Compile, make_target: MakeTarget, backend: str
) -> None:
    made = compiled("read weights", make_target(backend))
    assert made.sqnr_db() > 25
    reasons = {op.reason for op in made.runner().ops() if op.op == "linear"}
    assert len(reasons) == 1
    assert "whose weights are read" in reasons.pop()
