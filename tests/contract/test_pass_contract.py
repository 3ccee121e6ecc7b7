"""Every portable pass is a value: frozen, equal and hashable by its options, named by a slug."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from edgec.passes.contract import Pass, options_of
from edgec.passes.portable import portable_passes

PASSES = portable_passes()


@pytest.mark.parametrize("step", PASSES, ids=lambda step: type(step).__name__)
def test_pass_is_a_value(step: Any) -> None:
    assert isinstance(step, Pass)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", step.name)
    copy = dataclasses.replace(step)
    assert copy is not step
    assert copy == step
    assert hash(copy) == hash(step)
    for field in dataclasses.fields(step):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(step, field.name, None)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        step.anything = 1
    assert json.loads(json.dumps(options_of(step))).keys() == options_of(step).keys()


def test_names_are_distinct() -> None:
    assert len({step.name for step in PASSES}) == len(PASSES)
