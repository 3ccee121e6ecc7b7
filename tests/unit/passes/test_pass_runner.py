"""The runner believes no pass: it measures, and turns what goes wrong into an error with the pass's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from edgec.errors import PassError, UnsupportedError
from edgec.frozen import digest_json
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.runner import run_passes

Numbers = list[int]


@dataclass(frozen=True)
class Append(Pass[Numbers]):
    """Append a number, in the way the test asks."""

    number: int
    fault: str = ""
    needs: int = 0

    @property
    def name(self) -> str:
        return f"append-{self.number}"

    def requires(self, model: Numbers, ctx: PassContext) -> str | None:
        return None if len(model) >= self.needs else f"it needs {self.needs} numbers"

    def run(self, model: Numbers, ctx: PassContext) -> PassResult[Numbers]:
        if self.fault == "mutates":
            model.append(self.number)
        if self.fault == "crashes":
            raise ZeroDivisionError("by zero")
        if self.fault == "refuses":
            raise UnsupportedError("not this one")
        if self.fault == "lies":
            return PassResult(list(model), "appended one")
        coverage = (Coverage(subject="number", state="trained", reason="asked"),)
        return PassResult([*model, self.number], "appended one", coverage)

    def ensures(self, model: Numbers, ctx: PassContext) -> str | None:
        return "13 is there" if 13 in model else None


def _run(ctx: PassContext, *passes: Append, model: Numbers | None = None) -> Any:
    return run_passes(passes, model if model is not None else [1], ctx, digest_json)


def test_records_tell_what_happened(ctx: PassContext) -> None:
    told: list[str] = []
    model, records = run_passes((Append(2), Append(3, needs=9), Append(4, "lies")), [1], ctx, digest_json, told.append)
    assert model == [1, 2]
    assert told == ["append-2", "append-3", "append-4"]
    assert [item.state for item in records] == ["changed", "skipped", "unchanged"]
    assert records[0].after == records[1].before == records[2].after == digest_json([1, 2])[:16]
    assert records[1].coverage == (Coverage(subject="append-3", state="skipped", reason="it needs 9 numbers"),)
    assert records[0].options == {"number": 2, "fault": "", "needs": 0}
    assert records[0].coverage[0].state == "trained"


@pytest.mark.parametrize(
    ("step", "error", "text"),
    [
        (Append(2, "mutates"), PassError, "append-2: the pass changed its input model"),
        (Append(2, "crashes"), PassError, "append-2: it failed: ZeroDivisionError: by zero"),
        (Append(2, "refuses"), UnsupportedError, "not this one"),
        (Append(13), PassError, "append-13: the pass did not keep its promise: 13 is there"),
    ],
)
def test_faults(step: Append, error: type[Exception], text: str, ctx: PassContext) -> None:
    with pytest.raises(error) as caught:
        _run(ctx, step)
    assert text in str(caught.value)


@dataclass(frozen=True)
class Improve(Append):
    """What a model is as right without."""

    optional: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Improve(2, "crashes"), "it failed: ZeroDivisionError: by zero"),
        (Improve(13), "the pass did not keep its promise: 13 is there"),
    ],
)
def test_an_optional_pass_fails_no_build(step: Improve, reason: str, ctx: PassContext) -> None:
    model, records = _run(ctx, step, Append(3))
    assert model == [1, 3]
    assert [item.state for item in records] == ["skipped", "changed"]
    assert records[0].coverage == (Coverage(subject=step.name, state="skipped", reason=reason),)


def test_an_optional_pass_may_not_change_its_input_nor_hide_what_the_user_did_wrong(ctx: PassContext) -> None:
    with pytest.raises(PassError, match="changed its input model"):
        _run(ctx, Improve(2, "mutates"))
    with pytest.raises(UnsupportedError):
        _run(ctx, Improve(2, "refuses"))


def test_passes_are_values() -> None:
    assert Append(2) == Append(2)
    assert len({Append(2), Append(2), Append(3)}) == 2
