"""edgec.lock: written whole, read back, refused when damaged, and outdated by exactly what changed."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgec.errors import ProjectError
from edgec.lock.file import LOCK, Lock, LockedArtifact, LockedTarget, OldLock, read_lock, write_lock
from edgec.quant.recipe import Recipe
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
        RungRecord(artifact="m.onnx", rung="training", state="skipped", recipe=None, sqnr_db=None, reason="r"),
    ),
)  # fmt: skip
PLAIN = LockedArtifact(recipe=Recipe(), precision="fp32", rungs=())
INPUTS = {"gates": '{"max_drop":1.0}', "model": "0" * 64}


def write(root: Path, target: str, *names: str, inputs: dict[str, str] = INPUTS, files: tuple[str, ...] = ()) -> None:
    write_lock(root, target, inputs, dict.fromkeys(names, ENTRY), files or names)


def test_round_trip_and_other_targets_stay(tmp_path: Path) -> None:
    assert read_lock(tmp_path / LOCK) == Lock()
    write(tmp_path, "one", "m.onnx")
    first = (tmp_path / LOCK).read_bytes()
    one = LockedTarget(inputs=INPUTS, artifacts={"m.onnx": ENTRY})
    assert read_lock(tmp_path / LOCK) == Lock(targets={"one": one})
    write_lock(tmp_path, "another", INPUTS, {"m.pt": PLAIN}, ["m.pt"])
    another = LockedTarget(inputs=INPUTS, artifacts={"m.pt": PLAIN})
    assert read_lock(tmp_path / LOCK) == Lock(targets={"one": one, "another": another})
    (tmp_path / LOCK).write_bytes(first)
    write(tmp_path, "one", "m.onnx")
    assert (tmp_path / LOCK).read_bytes() == first


def locked(root: Path) -> list[str]:
    lock = read_lock(root / LOCK)
    assert isinstance(lock, Lock)
    return sorted(lock.targets["one"].artifacts)


def test_entries_stay_while_they_are_of_the_same_inputs(tmp_path: Path) -> None:
    both = ("m.onnx", "n.onnx")
    write(tmp_path, "one", "m.onnx", files=both)
    write(tmp_path, "one", "n.onnx", files=both)  # another artifact failed this time
    assert locked(tmp_path) == ["m.onnx", "n.onnx"]
    write(tmp_path, "one", "n.onnx")  # artifacts that the target no longer has are forgotten
    assert locked(tmp_path) == ["n.onnx"]
    write(tmp_path, "one", "m.onnx", files=both, inputs=INPUTS | {"seed": "1"})
    assert locked(tmp_path) == ["m.onnx"]


def test_the_file_is_easy_to_compare_between_commits(tmp_path: Path) -> None:
    write(tmp_path, "one", "m.onnx")
    text = (tmp_path / LOCK).read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    assert '"equalize": true,' in text
    assert "clip" not in text  # values that have their default are omitted


def test_targets_built_at_the_same_time_keep_their_entries(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(write, tmp_path, f"t{number}", "m.onnx") for number in range(24)]
    for one in done:
        one.result()
    lock = read_lock(tmp_path / LOCK)
    assert isinstance(lock, Lock)
    assert len(lock.targets) == 24


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("}", "", "JSON"),
        ('"schema_version": 2', '"schema_version": 3', "schema_version"),
        ('"schema_version": 2', '"schema_version": "2"', "schema_version"),
        ('"equalize": true', '"equalise": true', "equalise"),
        ('"calibration": "mse"', '"calibration": "best"', "calibration"),
        ("m.onnx", "m\udcff", "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_and_stays(tmp_path: Path, old: str, new: str, words: str) -> None:
    write(tmp_path, "one", "m.onnx")
    path = tmp_path / LOCK
    path.write_text(path.read_text().replace(old, new), errors="surrogateescape")
    damaged = path.read_bytes()
    with pytest.raises(ProjectError, match=words) as caught:
        read_lock(path)
    assert caught.value.where == str(path)
    with pytest.raises(ProjectError):
        write(tmp_path, "two", "m.onnx")
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("text", ["[" * 200_000, '{"targets": ' + '{"a": ' * 200_000])
def test_a_file_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(ProjectError, match="nested too deeply"):
        read_lock(tmp_path / LOCK)


def test_a_lock_of_an_earlier_edgec_is_known_and_replaced(tmp_path: Path) -> None:
    entry = {"recipe": {}, "precision": "int8", "rungs": [], "inputs": {"seed": "0"}}
    (tmp_path / LOCK).write_text(
        '{"schema_version": 1, "targets": {"old": {"m.onnx": ' + str(entry).replace("'", '"') + "}}}"
    )
    old = read_lock(tmp_path / LOCK)
    assert isinstance(old, OldLock)
    assert list(old.targets) == ["old"]
    write(tmp_path, "one", "m.onnx")
    lock = read_lock(tmp_path / LOCK)
    assert isinstance(lock, Lock)
    assert list(lock.targets) == ["one"]
