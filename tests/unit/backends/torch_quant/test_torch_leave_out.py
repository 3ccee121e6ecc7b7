"""What no rule knows is found by trying torch's own way: by the name a failure has, by halving, by wrong results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from op_nets import NETS

from edgec.backends.torch_quant import leave_out
from edgec.backends.torch_quant.audit import FLOAT
from edgec.backends.torch_quant.leave_out import LeaveOutUnsupported
from edgec.backends.torch_quant.lower import lower
from edgec.errors import UnsupportedError
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.trace import trace
from edgec.passes.contract import PassContext, PassResult
from edgec.target.spec import Target

MakeTarget = Callable[..., Target]


class Samples(list[dict[str, Any]]):
    """Calibration samples in memory."""


def _left_out(name: str, target: Target) -> PassResult[Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = NETS[name].make().eval()
    sample = NETS[name].draw(0)
    traced = trace(module, sample)
    assert traced.graph is not None
    source = ModelSource(format="python", path="net.py", sha256="0" * 64)
    inputs = (TensorSpec(name="x", shape=tuple(sample[0].shape)),)
    model = lower(FloatModel("net", source, inputs, (), graph=traced.graph), "qnnpack", quantize=True)
    spool: Any = Samples([{"x": sample[0].numpy()}])
    return LeaveOutUnsupported().run(model, PassContext(target, Path(), calibration=spool, emit=target.emit[0]))


@pytest.mark.parametrize(
    ("name", "node", "told"),
    [
        ("bicubic", "interpolate", "torch's int8 interpolate fails: Could not run"),
        ("prelu one", "act", "torch's quantizer cannot convert it: Dimension out of range"),
        ("clamp both", "clamp", "torch's int8 clamp gives something else here"),
    ],
)
def test_one_op_is_found_by_trying(
    name: str, node: str, told: str, make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave_out, "unsupported_nodes", lambda model: {})
    result = _left_out(name, make_target("qnnpack"))
    assert list(result.model.left_out) == [node]
    assert result.model.left_out[node].startswith(f"{FLOAT}: {told}")
    assert [(item.subject, item.state) for item in result.coverage] == [(node, "float32")]


def test_rules_need_no_search(make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    real = leave_out.try_without
    monkeypatch.setattr(leave_out, "try_without", lambda *arguments: tried.append(1) or real(*arguments))  # type: ignore[func-returns-value]
    assert list(_left_out("prelu one", make_target("qnnpack")).model.left_out) == ["act"]
    assert len(tried) == 1


def test_what_fails_whatever_is_left_out_is_refused(make_target: MakeTarget) -> None:
    with pytest.raises(UnsupportedError, match="cannot trace"):
        _left_out("pool indices", make_target("qnnpack"))
