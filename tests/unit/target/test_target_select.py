"""Which targets there are, and which ones names and globs mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import TargetError
from edgec.target.files import BUILT_IN, list_targets, search_path, target_files
from edgec.target.select import select, select_one


def write(root: Path, name: str, text: str) -> Path:
    file = root / "targets" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_names_and_globs_each_once_in_the_order_named(tmp_path: Path) -> None:
    assert select(["x86-64-int8", "rpi4-fp*", "rpi4-fp16", "x86-64-int8"], tmp_path) == (
        "x86-64-int8",
        "rpi4-fp16",
        "rpi4-fp32",
    )
    assert set(select(["*"], tmp_path)) == set(target_files(tmp_path))
    assert select([], tmp_path) == ()


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("rpi4-in8", 'no target is called "rpi4-in8"\n  did you mean "rpi4-int8"?'),
        ("rpi9-*", 'no target matches the glob "rpi9-*"'),
        ("q", "`edgec targets` lists the "),
        ("../targets/rpi4-int8", "no target is called"),
    ],
)
def test_what_matches_nothing_is_refused(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        select(["rpi4-int8", pattern], tmp_path)
    assert words in str(caught.value)


def test_a_projects_targets_come_first(tmp_path: Path) -> None:
    assert search_path(tmp_path) == (BUILT_IN,)
    own = write(tmp_path, "rpi4-int8", 'extends = "rpi4-int8"\ndescription = "ours"\n')
    other = write(tmp_path, "a-board", 'extends = "rpi4-fp32"\n')
    files = target_files(tmp_path)
    assert search_path(tmp_path) == (tmp_path / "targets", BUILT_IN)
    assert (files["rpi4-int8"], files["a-board"]) == (own, other)
    assert files["rpi4-fp32"].parent == BUILT_IN
    assert list(files) == sorted(files)


def test_summaries_show_inherited_values(tmp_path: Path) -> None:
    write(tmp_path, "mine", 'extends = "rpi4-int8"\ndescription = "ours"\n[[emit]]\nbackend = "onnxruntime"\n')
    found = {item.name: item for item in list_targets(tmp_path)}
    mine = found["mine"]
    assert (mine.device, mine.precision, mine.backends, mine.description) == ("rpi4", "int8", ("onnxruntime",), "ours")
    assert found["rpi4-int8"].backends == ("tflite", "qnnpack", "onnxruntime")


def test_a_listing_survives_values_of_the_wrong_type(tmp_path: Path) -> None:
    write(tmp_path, "odd", "device = 1\nemit = 3\n")
    found = {item.name: item for item in list_targets(tmp_path)}
    assert (found["odd"].device, found["odd"].precision, found["odd"].backends) == ("1", "?", ())


def test_one_target_where_one_is_wanted(tmp_path: Path) -> None:
    assert select_one("rpi4-int8", tmp_path) == "rpi4-int8"
    assert select_one("rpi3-*-int8", tmp_path) == "rpi3-armv7-int8"
    with pytest.raises(TargetError, match=r"names 2 targets\s+name one of rpi4-int8, rpi5-int8"):
        select_one("rpi?-int8", tmp_path)
