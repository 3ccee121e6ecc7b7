"""What a build tells before its first artifact, and what its manifest and report keep of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.bundle.manifest import Manifest
from edgec.check.build import coverage_of, findings_of, graph_of_model
from edgec.check.records import Finding, exit_code, in_order, warning
from edgec.dataset.spool import Spool
from edgec.dataset.write import Purpose, write_spool
from edgec.model.load import load_model
from edgec.plan.plan import make_plan
from edgec.project.load import load_project
from edgec.report.html import render_report
from edgec.target.load import load_target

Write = Callable[..., Spool]


@pytest.fixture
def spool(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Spools samples of the project, after `change`."""
    model = load_model(load_project(folder).model, folder)

    def write(what: Purpose, x: object, y: object = None) -> Spool:
        labels = {} if y is None else {"y": y}
        np.savez(folder / f"{what}.npz", image=x, **labels)  # type: ignore[arg-type]
        project = load_project(folder, {(what, "data"): str(folder / f"{what}.npz")})
        spec = getattr(project, what)
        out = tmp_path_factory.mktemp("spool") / what
        return write_spool(spec, project.preprocess, model.inputs, out, folder, samples=None, seed=0, what=what)

    return write


def test_nothing_is_doubtful(folder: Path, spool: Write) -> None:
    assert not _found(folder, spool("calibration", _random(32), np.arange(32) % 2), spool("evaluation", _random(50)))


def test_samples_that_prove_little(folder: Path, spool: Write) -> None:
    calibration = spool("calibration", np.ones((31, 3, 8, 8), np.float32), np.full(31, 2))
    found = _found(folder, calibration, spool("evaluation", _random(20)))
    assert [item.what.partition(":")[0] for item in found] == [
        "31 calibration samples are few",
        "all 31 calibration samples are of one class, 2",
        "all 31 calibration samples are equal",
        "20 evaluation samples are few",
    ]
    assert {(item.severity, item.kind) for item in found} == {("warning", "small-set")}
    assert "70 to 97 %" in found[-1].what


def test_an_input_that_holds_one_value(folder: Path, spool: Write) -> None:
    x = np.zeros((40, 3, 8, 8), np.float32)
    x[3, 0, 0, 0] = 1
    found = _found(folder, spool("calibration", x), spool("evaluation", _random(50)))
    assert not found
    flat = _found(folder, spool("calibration", x * 0), spool("evaluation", _random(50)))
    assert [item.what for item in flat] == ["all 40 calibration samples are equal"]


def test_the_ops_of_loaded_models(folder: Path) -> None:
    model = load_model(load_project(folder).model, folder)
    by_file = graph_of_model(model)
    by_torch = graph_of_model(replace(model, onnx=None))
    assert by_file is not None
    assert by_torch is not None
    assert [op.op for op in by_file.ops] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "MatMul"]
    assert {"Conv", "Relu"} <= {op.op for op in by_torch.ops}
    assert by_file.weight_elements == 6 * 3 * 9 + 24
    assert by_torch.weight_elements >= by_file.weight_elements
    image = 3 * 64 * 4
    assert by_file.peak_bytes(["image"]) == max(image + 6 * 64 * 4, 2 * 6 * 64 * 4)


def test_the_manifest_and_the_verdict_keep_it(make_manifest: Callable[..., Manifest], tmp_path: Path) -> None:
    few = warning("small-set", "20 evaluation samples are few: 70 to 97 %", where="/home/me/e.npz")
    (gap,) = coverage_of([few, warning("op", "LSTM (l): kept in float")])
    assert (gap.subject, gap.state) == ("e.npz", "weak evidence")
    manifest = make_manifest(tmp_path).model_copy(update={"coverage": (gap,)})
    page = render_report(manifest, [])
    verdict = page.partition("<h1>")[2].partition("<br>")[0]
    assert "weak evidence: e.npz: 20 evaluation samples are few: 70 to 97 %" in verdict


def test_findings_in_order() -> None:
    def error(kind: str, code: int) -> Finding:
        return Finding(severity="error", kind=kind, what="wrong", exit_code=code)  # type: ignore[arg-type]

    few = warning("small-set", "few")
    found = in_order([few, error("leak", 16), warning("data", "left out"), error("data", 15), few, error("model", 12)])
    assert [(item.kind, item.severity) for item in found] == [
        ("model", "error"), ("data", "error"), ("data", "warning"), ("leak", "error"), ("small-set", "warning"),
    ]  # fmt: skip
    assert exit_code(found) == 12
    assert exit_code([few]) == 0


def _random(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(count).standard_normal((count, 3, 8, 8)).astype(np.float32)


def _found(folder: Path, calibration: Spool, evaluation: Spool) -> tuple[Finding, ...]:
    project = load_project(folder)
    plan = make_plan(load_target("rpi4-int8", folder), project)
    return findings_of(plan, load_model(project.model, folder), calibration, evaluation)
