"""The second build runs in other circumstances, and one that fails where the first did not is a difference too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.build.reproduce import SecondBuild
from edgec.errors import ReproducibilityError
from edgec.project.spec import EvaluationSpec, InputSpec, ModelSpec, Project

MODEL = """
import json, os, sys, time
from pathlib import Path
mask = os.umask(0)
os.umask(mask)
told = {name: os.environ.get(name) for name in ("TZ", "PYTHONHASHSEED", "TMPDIR")}
Path(__file__).with_name("told.json").write_text(json.dumps({**told, "umask": mask}))
raise ValueError("no model this time")
"""


@pytest.mark.parametrize(("zone", "seed"), [("UTC", "1"), ("EDGEC-13:30", "0")])
def test_a_second_build_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, seed: str) -> None:
    monkeypatch.setenv("TZ", zone)
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "edgec.lock").write_text('{"schema_version": 2}')
    project = Project(
        model=ModelSpec(path="model.py:Net", inputs=(InputSpec(name="x", shape=(1, 4)),)),
        evaluation=EvaluationSpec(data="e.npz"),
    )
    steps: list[str] = []
    second = SecondBuild(
        "x86-64-fp32", project, tmp_path, threads=1, all_or_nothing=False, locked=False, progress=steps.append
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(
        ReproducibilityError, match=r"a second build .* failed, .*: model.py: .*no model this time"
    ) as caught:
        second(tmp_path / "bundle", scratch, tmp_path / "build.log")
    assert caught.value.where == "x86-64-fp32"
    assert steps[0] == "build it again, to compare"
    assert "second build: load model.py:Net" in steps
    assert second.found is None
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "dist").exists()
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["TZ"] not in (zone, None)
    assert told["PYTHONHASHSEED"] not in (seed, None)
    assert told["TMPDIR"] == str(scratch / "again" / "tmp")
    assert told["umask"] == 0o077
    assert (tmp_path / "edgec.lock").read_text() == '{"schema_version": 2}'
