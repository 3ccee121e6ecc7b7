"""edgec.lock: written whole, read back, refused when damaged, and outdated by exactly what changed."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import ProjectError
from edgec.ladder.lock import LOCK, Lock, LockedArtifact, changed, lock_inputs, read_lock, write_lock
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.plan import make_plan
from edgec.project.spec import CalibrationSpec, DataSpec, EvaluationSpec, ModelSpec, Preprocess, Project, TrainSpec
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.verify.records import CandidateScore, RungRecord

RECIPE = Recipe(calibration="mse", equalize=True, float_layers=("a", "b"))
ENTRY = LockedArtifact(
    recipe=RECIPE,
    precision="int8",
    rungs=(
        RungRecord(artifact="m.onnx", rung="min-max", state="failed", recipe=Recipe(), sqnr_db=-math.inf, reason="r"),
        RungRecord(
            artifact="m.onnx", rung="calibration", state="met", recipe=RECIPE, sqnr_db=math.inf,
            candidates=(CandidateScore(recipe=RECIPE, sqnr_db=31.25, agreement=1.0, chosen=True),),
        ),
    ),
    inputs={"model": "1", "gates": "2"},
)  # fmt: skip


def test_round_trip_and_other_targets_stay(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == Lock()
    write_lock(tmp_path, "one", {"m.onnx": ENTRY}, ["m.onnx"])
    first = (tmp_path / LOCK).read_bytes()
    assert read_lock(tmp_path).targets == {"one": {"m.onnx": ENTRY}}
    other = ENTRY.model_copy(update={"precision": "fp16"})
    write_lock(tmp_path, "another", {"m.onnx": other}, ["m.onnx"])
    assert read_lock(tmp_path).targets == {"one": {"m.onnx": ENTRY}, "another": {"m.onnx": other}}
    (tmp_path / LOCK).write_bytes(first)
    write_lock(tmp_path, "one", {"m.onnx": ENTRY}, ["m.onnx"])
    assert (tmp_path / LOCK).read_bytes() == first
    write_lock(tmp_path, "one", {"n.onnx": ENTRY}, ["m.onnx", "n.onnx"])  # another artifact failed this time
    assert list(read_lock(tmp_path).targets["one"]) == ["m.onnx", "n.onnx"]
    write_lock(tmp_path, "one", {"n.onnx": ENTRY}, ["n.onnx"])  # artifacts that the target no longer has are forgotten
    assert list(read_lock(tmp_path).targets["one"]) == ["n.onnx"]


def test_targets_built_at_the_same_time_keep_their_entries(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(write_lock, tmp_path, f"t{number}", {"m.onnx": ENTRY}, ["m.onnx"]) for number in range(24)]
    for one in done:
        one.result()
    assert len(read_lock(tmp_path).targets) == 24


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("}", "", "JSON"),
        ('"schema_version": 1', '"schema_version": 2', "schema_version"),
        ('"equalize": true', '"equalise": true', "equalise"),
        ('"calibration": "mse"', '"calibration": "best"', "calibration"),
        ("m.onnx", "m\udcff", "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_and_stays(tmp_path: Path, old: str, new: str, words: str) -> None:
    write_lock(tmp_path, "one", {"m.onnx": ENTRY}, ["m.onnx"])
    path = tmp_path / LOCK
    path.write_text(path.read_text().replace(old, new), errors="surrogateescape")
    damaged = path.read_bytes()
    with pytest.raises(ProjectError, match=words) as caught:
        read_lock(tmp_path)
    assert caught.value.where == str(path)
    with pytest.raises(ProjectError):
        write_lock(tmp_path, "two", {"m.onnx": ENTRY}, ["m.onnx"])
    assert path.read_bytes() == damaged


def test_what_changed_is_named() -> None:
    assert changed(ENTRY, {"model": "1", "gates": "2"}) == ()
    assert changed(ENTRY, {"model": "1", "gates": "3", "training": "4"}) == ("gates", "training")
    assert changed(ENTRY, {}) == ("gates", "model")


@pytest.fixture
def spools(tmp_path: Path) -> dict[str, Spool]:
    """One sample of zeros, and one of ones."""
    found = {}
    for name, value in (("zeros", 0), ("ones", 1)):
        (tmp_path / f"{name}.py").write_text(
            f"import numpy as np\ndef data():\n    return [np.full((1, 4), {value}, np.float32)]\n"
        )
        spec = DataSpec(data=f"{name}.py:data")
        inputs = (TensorSpec(name="x", shape=(1, 4)),)
        found[name] = write_spool(
            spec, Preprocess(), inputs, tmp_path / name, tmp_path, samples=None, seed=0, what="calibration"
        )
    return found


def test_inputs_tell_everything_that_the_search_depends_on(spools: dict[str, Spool]) -> None:
    project = Project(
        model=ModelSpec(path="model.py:Net"),
        calibration=CalibrationSpec(data="c.npz"),
        evaluation=EvaluationSpec(data="e.npz"),
    )
    source = ModelSource(format="python", path="model.py", sha256="0" * 64, entry="Net")

    def inputs(target: str = "x86-64-int8", data: str = "zeros", digest: str = "0", **tables: object) -> dict[str, str]:
        plan = make_plan(load_target(target, Path("nowhere")), project.model_copy(update=tables))
        model = FloatModel(
            name="net", inputs=(), outputs=(), source=source.model_copy(update={"sha256": digest * 64}),
            graph=None, module=None, untraceable="",
        )  # fmt: skip
        return lock_inputs(plan, plan.emits[0], model, {"evaluation": spools[data], "training": None})

    entry = ENTRY.model_copy(update={"inputs": inputs()})
    assert changed(entry, inputs()) == ()
    gates = project.gates.model_copy(update={"strict": True})
    assert changed(entry, inputs(gates=gates)) == ("gates",)
    assert changed(entry, inputs(digest="1")) == ("model",)
    assert changed(entry, inputs(data="ones")) == ("evaluation",)
    assert changed(entry, inputs(evaluation=EvaluationSpec(data="e.npz", metric="sqnr"))) == ("metric",)
    assert changed(entry, inputs(build=project.build.model_copy(update={"seed": 1}))) == ("seed",)
    assert changed(entry, inputs(build=project.build.model_copy(update={"effort": "fast"}))) == ("search",)
    assert changed(entry, inputs(build=project.build.model_copy(update={"time_budget": 9.0}))) == ()
    assert changed(entry, inputs(train=TrainSpec(data="t.npz"))) == ("search", "training")
    assert "target" in changed(entry, inputs("rpi4-int8"))
