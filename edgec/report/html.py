"""``report.html``: one file that opens offline: what was measured, and all that was not done as asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from edgec.bundle.manifest import Manifest, PassTime, count_ops
from edgec.verify.records import GateResult, Measurement

TEMPLATE = "report.html.j2"
NOT_MEASURED = "-"


def render_report(manifest: Manifest, measurements: Sequence[Measurement], times: Sequence[PassTime] = ()) -> str:
    """The report of a bundle as one HTML page without outside references.

    Args:
        manifest: the bundle's index.
        measurements: every artifact in every runtime, times included.
        times: wall time of each pass.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, kib=_kib, shape=_shape)
    return environment.get_template(TEMPLATE).render(
        manifest=manifest,
        measurements=measurements,
        seconds={(item.artifact, item.name): item.seconds for item in times},
        verdict=_verdict(manifest.gates),
        count_ops=count_ops,
    )


def _verdict(gates: Sequence[GateResult]) -> str:
    states = [gate.state for gate in gates]
    if not states:
        return "no gates were set"
    told = f"{states.count('met')} of {len(states)} gates met"
    return told + (f", {missing} not measured" if (missing := states.count("not measured")) else "")


def _number(value: float | None, digits: int = 2) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
