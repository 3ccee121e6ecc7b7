"""Points tell the worst of all judged runtimes, and latencies that a busy machine does not bend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle.manifest import accuracy_of
from edgec.errors import PassError
from edgec.project.spec import Project
from edgec.quant.recipe import Recipe
from edgec.sweep.making import MadeCells
from edgec.sweep.points import Made, points_of
from edgec.sweep.run import failed_cells
from edgec.sweep.store import CellArtifact
from edgec.sweep.timing import Placed, Timed
from edgec.sweep.variants import Cell, Levels, cells_of, reference_of
from edgec.target.load import load_target
from edgec.verify.records import Latency, Measurement, MetricResult, OutputFidelity, Speed


@pytest.fixture
def cell(small_project: tuple[Project, Path]) -> Cell:
    project, root = small_project
    (found,), _ = cells_of(load_target("x86-64-int8", root), project, Levels())
    return found


def placed(artifact: Artifact, sha256: str, *measurements: Measurement) -> Placed:
    return Placed(
        CellArtifact(
            artifact=artifact, sha256=sha256, size=2048, recipe=Recipe(), rungs=(), passes=(),
            accuracy=tuple(accuracy_of(item) for item in measurements), coverage=(),
        ),
        Path("cell"),
    )  # fmt: skip


def latency(ms: float) -> Latency:
    return Latency(p50_ms=ms, p90_ms=ms, runs=10, threads=1)


def test_the_worst_judged_runtime_counts(
    cell: Cell, plain_artifact: Artifact, make_measurement: Callable[..., Measurement]
) -> None:
    def one(runtime: str, drop: float, **fields: Any) -> Measurement:
        metric = MetricResult(
            name="top1", unit="points", float_value=95.0, value=95.0 - drop, drop=drop, drop_low=None, drop_high=None,
            interval="", samples=400,
        )  # fmt: skip
        return make_measurement(runtime=runtime, metric=metric, **fields)

    noisy = (OutputFidelity(output="y", sqnr_db=12.0, max_abs_error=1.0),)
    made = placed(
        plain_artifact, "1", one("a", 0.5), one("b", 2.0, agreement=0.9, fidelity=noisy), one("c", 9.0, judged=False)
    )
    (point,) = points_of([Made(cell, made, None)], lambda made: Timed(reason="not timed"))
    assert point.accuracy == pytest.approx(0.93)
    assert (point.runtime, point.agreement, point.sqnr_db) == ("a", 0.9, 12.0)
    assert point.pace is None
    assert point.notes == ("not timed", "no float artifact to compare its latency with")

    broken = placed(
        plain_artifact, "1", one("a", 0.5), make_measurement(runtime="b", metric=None, failure="no such op")
    )
    (point,) = points_of([Made(cell, broken, None)], lambda made: pytest.fail("what does not run is not timed"))
    assert point.failure == "b: no such op"


def test_what_slows_a_pair_does_not_change_the_order(
    cell: Cell, plain_artifact: Artifact, make_measurement: Callable[..., Measurement]
) -> None:
    floats, calm, busy = (placed(plain_artifact, name, make_measurement()) for name in ("float", "calm", "busy"))
    times = {
        "float": Timed(latency(10.0), None, 70.0),
        "calm": Timed(latency(5.0), Speed(ratio=2.0, low=1.9, high=2.1, float_ms=10.0, runs=20), 70.0),
        "busy": Timed(latency(9.0), Speed(ratio=4.0, low=3.0, high=5.0, float_ms=36.0, runs=20), 70.0),
    }
    made = [Made(cell, item, floats) for item in (floats, calm, busy)]
    points = points_of(made, lambda one: times[one.placed.made.sha256])
    paces = [point.pace for point in points]
    assert all(pace is not None for pace in paces)
    assert [pace.steady_ms for pace in paces if pace] == [10.0, 5.0, 2.5]
    assert [pace.latency_ms for pace in paces if pace] == [10.0, 5.0, 9.0]
    assert [(pace.ratio_low, pace.ratio, pace.ratio_high) for pace in paces if pace][2] == (0.2, 0.25, 1 / 3)
    assert made[0].is_reference
    assert not made[1].is_reference


def test_without_a_float_artifact_there_is_no_pace(
    cell: Cell, plain_artifact: Artifact, make_measurement: Callable[..., Measurement]
) -> None:
    one = placed(plain_artifact, "1", make_measurement())
    (point,) = points_of([Made(cell, one, None)], lambda made: Timed(latency(1.0), None, 70.0))
    assert point.pace is None
    assert point.memory_mb == 70.0
    assert point.notes == ("no float artifact to compare its latency with",)
    (point,) = points_of([Made(cell, one, None, "no such op")], lambda made: Timed(latency(1.0), None, 70.0))
    assert point.notes == ("no float artifact to compare its latency with: no such op",)
    reference = placed(plain_artifact, "2", make_measurement())
    (point,) = points_of(
        [replace(Made(cell, one, None), beside=reference)], lambda made: Timed(latency(1.0), None, 70.0)
    )
    assert point.pace is None


def test_only_the_reference_has_its_own_pace(
    cell: Cell, plain_artifact: Artifact, make_measurement: Callable[..., Measurement]
) -> None:
    floats, one = (placed(plain_artifact, name, make_measurement()) for name in ("float", "one"))
    reason = "the float artifact does not run in a"
    times = {"float": Timed(latency(10.0)), "one": Timed(latency(5.0), reason=reason)}
    made = [Made(cell, item, floats) for item in (floats, one)]
    reference, point = points_of(made, lambda made: times[made.placed.made.sha256])
    assert reference.pace is not None
    assert reference.pace.ratio == 1.0
    assert (point.pace, point.notes) == (None, (reason,))


def test_failures_of_what_others_are_timed_against_are_reported(small_project: tuple[Project, Path]) -> None:
    project, root = small_project
    resolved = load_target("x86-64-int8", root)
    (asked,), _ = cells_of(resolved, project, Levels())
    reference = reference_of(resolved, project)
    assert reference is not None
    cells = (replace(asked, key="1"), replace(reference, key="2"))
    made = MadeCells(failed={"2": PassError("no room", where="fold")})
    (reported,) = failed_cells(cells, made)
    assert (reported.precision, reported.possible, reported.reason) == ("fp32", True, "float reference: fold: no room")
    alone = replace(asked, key="2")
    (reported,) = failed_cells((alone, cells[1]), made)
    assert (reported.precision, reported.reason) == ("int8", "fold: no room")
