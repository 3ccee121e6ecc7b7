"""The events of a build on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.events import Event, Step

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.build.inputs import Inputs


class BuildDisplay:
    """Shows events: steps in place on a terminal, else line by line. A context; its status line ends with it.

    Args:
        name: of the target; begins each line.
        console: where to.
    """

    def __init__(self, name: str, console: Console) -> None:
        self._name, self._console = name, console
        self._status = console.status(name)

    def __enter__(self) -> BuildDisplay:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, event: Event) -> None:
        """Show one event (`edgec.events.Subscriber`)."""
        from edgec.build.events import ArtifactsMeasured, ArtifactUnavailable, InputsRead, ProblemFound
        from edgec.cli.findings import show_findings
        from edgec.cli.show_result import show_result

        match event:
            case Step(text):
                self._show_step(text)
            case ArtifactUnavailable(file, error):
                self._line(f"{self._name}: {file} WILL BE MISSING: {error}", style="bold red")
            case InputsRead(inputs):
                self._show_first_samples(inputs)
            case ProblemFound(finding):
                show_findings([finding], self._console, self._name)
            case ArtifactsMeasured(plan, result, all_or_nothing):
                show_result(plan, result, self._console, all_or_nothing=all_or_nothing)

    def _show_step(self, text: str) -> None:
        from rich.markup import escape

        self._status.update(escape(f"{self._name}: {text}"))
        if not self._console.is_terminal:
            self._line(f"{self._name}: {text}")

    def _show_first_samples(self, inputs: Inputs) -> None:
        """What was done to the first samples: a wrong colour order or scale is seen before the work."""
        for spool in filter(None, (inputs.calibration, inputs.evaluation)):
            for line in spool.info.first_sample:
                self._line(f"  first sample of {spool.info.origin}: {line}")

    def _line(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
