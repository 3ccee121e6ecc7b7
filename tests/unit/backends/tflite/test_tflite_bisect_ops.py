"""What a quantizer does not take is found by halves, together with what looks like it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgec.backends.tflite.bisect_ops import Candidate, leave_out

OPS = [Candidate(f"{kind}{number}", kind) for number, kind in enumerate("abcabcabd")]


@pytest.mark.parametrize("refused", ["", "b", "d", "ac"])
def test_only_the_culprits_are_left_out(refused: str) -> None:
    tried = []

    def attempt(denied: Sequence[str]) -> tuple[str, ...]:
        tried.append(denied)
        if wrong := [item.name for item in OPS if item.signature in refused and item.name not in denied]:
            raise ValueError(f"cannot take {wrong[0]}")
        return tuple(denied)

    result, left = leave_out(attempt, OPS)
    assert set(result) == {item.name for item in OPS if item.signature in refused}
    assert {item.candidate.name for item in left} == set(result)
    assert all("cannot take" in item.reason for item in left)
    assert len(tried) <= 2 + 6 * len(refused)


def test_failure_that_is_no_operators_is_raised_at_once() -> None:
    tried = []

    def attempt(denied: Sequence[str]) -> None:
        tried.append(denied)
        raise ValueError("not a flatbuffer")

    with pytest.raises(ValueError, match="not a flatbuffer"):
        leave_out(attempt, OPS)
    assert len(tried) == 2
