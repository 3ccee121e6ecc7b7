"""The events of a build on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from edgec.cli.console import say, steps
from edgec.events import Event, Step, Subscriber

if TYPE_CHECKING:
    from edgec.build.inputs import Inputs


@contextmanager
def build_display(name: str, console: Console) -> Iterator[Subscriber]:
    """A subscriber that shows events: steps in place on a terminal, else line by line.

    Args:
        name: of the target; begins each line.
        console: where to.
    """
    from edgec.build.events import ArtifactsMeasured, ArtifactUnavailable, InputsRead, ProblemFound
    from edgec.cli.findings import show_findings
    from edgec.cli.show_result import show_result

    with steps(console, name, f"{name}: ") as progress:

        def show(event: Event) -> None:
            match event:
                case Step(text):
                    progress(text)
                case ArtifactUnavailable(file, error):
                    say(console, f"{name}: {file} WILL BE MISSING: {error}", style="bold red")
                case InputsRead(inputs):
                    _show_first_samples(inputs, console)
                case ProblemFound(finding):
                    show_findings([finding], console, name)
                case ArtifactsMeasured(plan, result, all_or_nothing):
                    show_result(plan, result, console, all_or_nothing=all_or_nothing)

        yield show


def _show_first_samples(inputs: Inputs, console: Console) -> None:
    """What was done to the first samples: a wrong colour order or scale is seen before the work."""
    for spool in filter(None, (inputs.calibration, inputs.evaluation)):
        for line in spool.info.first_sample:
            say(console, f"  first sample of {spool.info.origin}: {line}")
