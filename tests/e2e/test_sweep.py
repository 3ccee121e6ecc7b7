"""`edgec sweep` of the digits: every cell once, whatever is stopped or killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from edgec.errors import GateError, StoppedError, TargetError, UsageError
from edgec.sweep.records import Sweep

from .command import edgec, edgec_here, start, workers
from .sweeping import CELLS, SWEEP, cells, counts, eventually, finished, processes_of, wait_for


@pytest.mark.slow
def test_stopped_resumed_twice_at_once_and_killed(undisturbed: Path, swept_project: Path) -> None:
    process = start(*SWEEP, "--workers", "2", cwd=swept_project)
    wait_for(process, "model.onnx: emit")
    process.send_signal(signal.SIGINT)
    assert finished(process).code == StoppedError.exit_code
    assert eventually(lambda: not processes_of(swept_project), 10)
    assert not (swept_project / "dist" / "sweep.json").exists()

    pair = [start(*SWEEP, "--workers", "1", cwd=swept_project)]
    wait_for(pair[0], "model.onnx: emit")
    pair.append(start(*SWEEP, "--workers", "1", cwd=swept_project))  # not before: it might take every cell
    os.kill(workers(pair[0].pid)[0], signal.SIGKILL)
    wait_for(pair[0], "try again")
    for run in map(finished, pair):
        assert run.code == 0, run.errors
        assert sum(counts(run.errors)) == CELLS
    assert cells(swept_project) == cells(undisturbed)
    assert not list((swept_project / "dist" / ".work" / "sweep" / "hosts").glob("*/*/[0-9]*-*"))


@pytest.mark.slow
def test_from_the_store_extended_picked_and_built(undisturbed: Path, tmp_path: Path) -> None:
    project = shutil.copytree(undisturbed, tmp_path / "project")
    began = time.monotonic()
    rule = "accuracy>=0.9, min size"
    again = edgec(*SWEEP, "--pick", rule, "--save", "smallest", cwd=project)
    assert time.monotonic() - began < 3
    assert again.code == 0, again.errors
    assert counts(again.errors) == (0, CELLS)
    assert "time fp32" not in again.errors  # times are kept too

    found = Sweep.model_validate_json((project / "dist" / "sweep.json").read_text())
    assert [(item.target, item.precision) for item in found.points] == [
        ("one", "fp32"), ("one", "int8"), ("two", "fp32"), ("two", "int8"),
    ]  # fmt: skip
    for point in found.points:
        assert point.accuracy is not None
        assert point.accuracy > 0.9
        assert point.pace is not None
        assert (point.pace.ratio == 1) == (point.precision == "fp32")
        assert point.memory_mb is not None
        assert 20 < point.memory_mb < 1000
    sizes = [point.size_bytes for point in found.points]
    (chosen,) = [point for point in found.points if point.chosen]
    assert chosen.size_bytes == min(sizes)
    assert any(point.front for point in found.points)
    assert len(again.output.splitlines()) == 2 + CELLS  # a Markdown table
    assert (project / "dist" / "sweep.html").read_text().count("<circle") == 2 * CELLS

    extended = edgec("sweep", "--target", "one", "--precision", "fp16,int8", *SWEEP[7:], "--json", cwd=project)
    assert extended.code == 0, extended.errors
    assert counts(extended.errors) == (1, 2)  # fp32 is there to be timed against
    assert [item["precision"] for item in json.loads(extended.output)["points"]] == ["fp16", "int8"]

    built = edgec("build", "--target", "smallest", "--effort", "fast", *SWEEP[-4:], cwd=project)
    assert built.code == 0, built.errors
    manifest = json.loads((project / "dist" / "smallest" / "manifest.json").read_text())
    assert [item["sha256"] for item in manifest["artifacts"]] == [chosen.sha256]
    assert counts(edgec(*SWEEP, cwd=project).errors) == (0, CELLS)  # bundles are no part of the project

    unmet = edgec(*SWEEP, "--pick", "size<=1, max accuracy", cwd=project)
    assert unmet.code == GateError.exit_code
    assert f"the best is {min(sizes) / 1024:.4g}" in unmet.errors
    assert len(unmet.output.splitlines()) == 2 + CELLS  # the table is shown all the same


def test_a_cell_that_fails_is_reported_and_the_others_are_made(swept_project: Path) -> None:
    metric = (
        "import pathlib\n"
        "def score(outputs, labels):\n"
        "    output = outputs['output_0'] if 'output_0' in outputs else next(iter(outputs.values()))\n"
        "    limit = float((pathlib.Path(__file__).parent / 'limit.txt').read_text())\n"
        "    assert output.max() < limit, 'beyond the limit'\n"
        "    return (output.argmax(-1).reshape(-1) == labels).astype(float)\n"
    )
    (swept_project / "metric.py").write_text(metric)
    (swept_project / "limit.txt").write_text("0")
    arguments = (
        "sweep",
        "-t",
        "one",
        "--precision",
        "fp32",
        *SWEEP[-4:],
        "--metric",
        str(swept_project / "metric.py:score"),
    )
    failed = edgec(*arguments, cwd=swept_project)
    assert failed.code != 0
    assert "beyond the limit" in failed.errors
    assert "Traceback" not in failed.errors
    reported = json.loads((swept_project / "dist" / "sweep.json").read_text())
    assert [item["possible"] for item in reported["unmade"]] == [True]
    assert "beyond the limit" in reported["unmade"][0]["reason"]

    (swept_project / "limit.txt").write_text("1e9")
    assert counts(edgec(*arguments, cwd=swept_project).errors) == (1, 0)
    (swept_project / "limit.txt").write_text("1e10")  # edgec.toml does not name this file, but the metric reads it
    assert counts(edgec(*arguments, cwd=swept_project).errors) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "reported"),
    [
        (("--target", "on"), TargetError, 'no target is called "on"'),
        (("--target", "one", "--precision", "int9"), UsageError, '"int9"'),
        (("--target", "one", "--method", "minmx"), UsageError, 'did you mean "minmax"'),
        (("--target", "one", "--prune", "0,1.5"), UsageError, '"1.5" is not a share'),
        (("--target", "one", "--prune", "0,,1"), UsageError, "empty value"),
        (("--target", "one", "--pick", "accuracy>0.9"), UsageError, "no aim"),
        (("--target", "one", "--save", "x"), UsageError, "--save without --pick"),
        (("--target", "one", "--pick", "min size", "--save", "two"), TargetError, "already"),
        (("--target", "one", "--scheduler", "localhost"), UsageError, "is not the address of a scheduler"),
    ],
)
def test_wrong_words_are_told_before_anything_runs(
    swept_project: Path, arguments: tuple[str, ...], error: type[Exception], reported: str
) -> None:
    run = edgec_here("sweep", *arguments, cwd=swept_project)
    assert run.code == error.exit_code  # type: ignore[attr-defined]
    assert reported in run.errors
    assert "Traceback" not in run.errors
    assert not (swept_project / "dist").exists()
