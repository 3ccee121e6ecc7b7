"""What a build reports while it runs: a stream of events, which the command line, a log or a notebook subscribes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Event:
    """The base of all events."""


@dataclass(frozen=True)
class Step(Event):
    """A step begins."""

    text: str
    """One short line."""


Subscriber = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A subscriber that does nothing."""


def subscriber_of(progress: Callable[[str], None]) -> Subscriber:
    """A subscriber that hands the text of each step to `progress`."""

    def subscriber(event: Event) -> None:
        if isinstance(event, Step):
            progress(event.text)

    return subscriber
