"""What ``--fail-on`` takes and refuses."""

from __future__ import annotations

import pytest

from edgec.compare.limits import Limit, parse_limits
from edgec.errors import UsageError


def test_numbers_percentages_and_units() -> None:
    limits = parse_limits(["accuracy=0.5, latency=10%", "size = 1.5 KiB,memory=.5MB,agreement=1points"])
    assert limits == (
        Limit(quantity="accuracy", amount=0.5),
        Limit(quantity="latency", amount=10, unit="%"),
        Limit(quantity="size", amount=1.5, unit="KiB"),
        Limit(quantity="memory", amount=0.5, unit="MB"),
        Limit(quantity="agreement", amount=1, unit="points"),
    )
    assert [str(item) for item in limits] == ["0.5", "10%", "1.5 KiB", "0.5 MB", "1 points"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("acuracy=0.5", 'did you mean "accuracy"'),
        ("speed=1", "quantities: accuracy, agreement, size, latency, memory"),
        ("", "quantities:"),
        ("accuracy=0.5,", "quantities:"),
        ("accuracy", '"" is not a limit'),
        ("accuracy=", '"" is not a limit'),
        ("accuracy=-1", '"-1" is not a limit'),
        ("accuracy=nan", '"nan" is not a limit'),
        ("accuracy=inf", '"inf" is not a limit'),
        (f"size={'9' * 400}", "is not a limit"),
        ("latency=10%%", "is not a limit"),
        ("latency=10KiB", '"KiB" is not a unit of it'),
        ("size=5%,size=3%", "size stands twice"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_limits([text])
    assert told in str(error.value)
