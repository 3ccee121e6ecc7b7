"""The second build runs in other circumstances, and one that fails where the first did not is a difference too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.build.options import BuildOptions
from edgec.build.reproduce import check_reproducible
from edgec.errors import ReproducibilityError
from edgec.events import subscriber_of
from edgec.plan.context import BuildContext
from edgec.plan.plan import make_plan
from edgec.project.spec import EvaluationSpec, InputSpec, ModelSpec, Project
from edgec.storage.cache import Cache
from edgec.target.load import load_target

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
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    plan = make_plan(load_target("x86-64-fp32", tmp_path), project)
    context = BuildContext(
        plan, tmp_path, scratch, tmp_path / "build.log", Cache(tmp_path / "cache"), Cache(tmp_path / "cache"), tmp_path,
        1, 1,
        subscriber_of(steps.append),
    )  # fmt: skip
    with pytest.raises(
        ReproducibilityError, match=r"a second build .* failed, .*: model.py: .*no model this time"
    ) as caught:
        check_reproducible(tmp_path / "bundle", context, BuildOptions())
    assert caught.value.where == "x86-64-fp32"
    assert steps[0] == "build it again, to compare"
    assert "second build: load model.py:Net" in steps
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "dist").exists()
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["TZ"] not in (zone, None)
    assert told["PYTHONHASHSEED"] not in (seed, None)
    assert told["TMPDIR"] == str(scratch / "again" / "tmp")
    assert told["umask"] == 0o077
    assert (tmp_path / "edgec.lock").read_text() == '{"schema_version": 2}'
