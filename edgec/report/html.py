"""``report.html``: one file that opens offline: what was measured, and all that was not done as asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.bundle.manifest import Manifest, PassTime, count_ops
from edgec.model.spec import Array
from edgec.plan.rungs import FALLBACK
from edgec.quant.recipe import Recipe
from edgec.quant.words import words
from edgec.report.fidelity_plot import plot_fidelity
from edgec.report.page import NOT_MEASURED, render_page
from edgec.report.pictures import Picture, pictures
from edgec.verify.blame import blame_lines, slower_line
from edgec.verify.records import Measurement

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render_report(
    manifest: Manifest,
    measurements: Sequence[Measurement],
    times: Sequence[PassTime] = (),
    sample: Mapping[str, Array] | None = None,
) -> str:
    """The report of a bundle as one HTML page without outside references.

    Args:
        manifest: the bundle's index.
        measurements: every artifact in every runtime, times included.
        times: wall time of each pass.
        sample: the first evaluation sample as the model was fed it; None: it is not shown.
    """
    ranges = manifest.target.precision == "int8"

    def told(recipe: Recipe | None, rung: str = "") -> str:
        return NOT_MEASURED if recipe is None or rung == FALLBACK else words(recipe, ranges=ranges)

    return render_page(
        TEMPLATE,
        manifest=manifest,
        measurements=measurements,
        several_outputs=any(len(item.fidelity) > 1 for item in measurements),
        seconds={(item.artifact, item.name): item.seconds for item in times},
        verdict=_verdict(manifest),
        loud=[*manifest.missing, *(gap for gap in manifest.coverage if gap.loud)],
        count_ops=count_ops,
        told=told,
        fidelity={item.artifact.file: plot_fidelity(item.layers) for item in manifest.artifacts if item.layers},
        pictures=_pictures(manifest, sample),
        slower=[(line, blame_lines(item)) for item in measurements if (line := slower_line(item))],
    )


def _pictures(manifest: Manifest, sample: Mapping[str, Array] | None) -> tuple[Picture, ...]:
    if sample is None or manifest.evaluation is None:
        return ()
    color = manifest.project.settings.get("preprocess", {}).get("color")
    return pictures(sample, color)


def _verdict(manifest: Manifest) -> str:
    states = [gate.state for gate in manifest.gates]
    told = f"{states.count('met')} of {len(states)} gates met" if states else "no gates were set"
    told += f", {short} below the goal" if (short := states.count("short")) else ""
    told += f", {missing} not measured" if (missing := states.count("not measured")) else ""
    told += f", {len(manifest.missing)} artifacts missing" if not manifest.complete else ""
    doubts = [f"{gap.subject}: {gap.reason}" for gap in manifest.coverage if gap.state == "weak evidence"]
    return "; ".join([told, *(f"weak evidence: {doubt}" for doubt in doubts)])
