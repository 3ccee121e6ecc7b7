"""Folders that somebody prepared, and folders that are not for publishing."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.bundle.check import check_digests
from edgec.errors import PublishError, TargetError, UsageError
from edgec.publish.folder import FolderStore
from edgec.publish.outgoing import outgoing
from edgec.publish.place import FolderPlace
from edgec.publish.pull import Pulled, pull
from edgec.publish.transfer import Patience

MakeBundle = Callable[..., Path]
QUICK = Patience(timeout=0.2, retries=1, wait=0.01)
ESCAPE = "\x1b]0;pwned\x07"


def publish(bundle: Path, place: Path, *, add: bool = False) -> None:
    found = outgoing([bundle], lambda step: None)
    FolderStore(FolderPlace(place), QUICK).publish(found, add=add, progress=lambda step: None)


def get(place: Path, out: Path, *patterns: str) -> list[Pulled]:
    return list(pull(FolderPlace(place), patterns or ("*",), out, patience=QUICK))


def test_a_bundle_stays_one(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, other = make_bundle(tmp_path / "dist"), make_bundle(tmp_path / "other", "rpi4-int8")
    publish(bundle, tmp_path / "place")
    for act in (publish, get):
        for inside in (other, other / "bench", other / "new"):
            with pytest.raises(UsageError, match="this is a bundle") as caught:
                act(bundle if act is publish else tmp_path / "place", inside)  # type: ignore[operator]
            assert caught.value.hint == f"name the folder above: {tmp_path / 'other'}"
    check_digests(other)
    assert not (other / ".work").exists()


@pytest.mark.parametrize("target", [ESCAPE, "../../x", ".work", ""])
@pytest.mark.parametrize("key", ["bundles", "replacing"])
def test_targets_of_an_index_are_checked_as_it_is_read(
    tmp_path: Path, make_bundle: MakeBundle, target: str, key: str
) -> None:
    bundle, place = make_bundle(tmp_path / "dist"), tmp_path / "place"
    publish(bundle, place)
    index = json.loads((place / "index.json").read_text())
    index[key][target] = index["bundles"]["x86-64-int8"]
    (place / "index.json").write_text(json.dumps(index))
    for act in (
        lambda: get(place, tmp_path / "in" / "out", "nope"),
        lambda: get(place, tmp_path / "in" / "out"),
        lambda: publish(bundle, place, add=True),
    ):
        with pytest.raises(PublishError, match="cannot be the name of a target") as caught:
            act()
        assert ascii(target) in caught.value.what
        assert "\x1b" not in str(caught.value)
    assert json.loads((place / "index.json").read_text()) == index
    (place / "index.json").write_text(json.dumps({**index, "bundles": {ESCAPE: 1}, "replacing": {}}))
    with pytest.raises(PublishError, match="index is damaged") as caught:
        get(place, tmp_path / "in" / "out")
    assert "\x1b" not in str(caught.value)
    (place / "index.json").unlink()  # as the hint says
    publish(bundle, place)
    with pytest.raises(TargetError, match="nope"):
        get(place, tmp_path / "in" / "out", "nope")


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_modes_are_by_name_whatever_the_place_has(tmp_path: Path, make_bundle: MakeBundle, mask: int) -> None:
    place = tmp_path / "place"
    publish(make_bundle(tmp_path / "dist"), place)
    published = place / "x86-64-int8"
    for path in (file for file in published.rglob("*") if file.is_file()):
        path.chmod(0o644 if path.suffix in {".sh", ".py"} else 0o755)
    before = os.umask(mask)
    try:
        (one,) = get(place, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.name for path in one.path.rglob("*") if path.is_file() and path.stat().st_mode & stat.S_IXUSR} == {
        "bench.py",
        "run.sh",
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (one.path, *one.path.rglob("*"))}
    assert modes == {0o755, 0o644}
    (one.path / "bench" / "run.sh").chmod(0o644)
    assert [again.changed for again in get(place, tmp_path / "out")] == [True]
    assert (one.path / "bench" / "run.sh").stat().st_mode & stat.S_IXUSR


def test_what_is_no_folder_of_bundles_is_told(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, place = make_bundle(tmp_path / "dist"), tmp_path / "place"
    with pytest.raises(PublishError, match="this is a file, not a folder") as caught:
        get(bundle / "model.onnx", tmp_path / "out")
    assert "DIR" in caught.value.hint
    publish(bundle, place)
    shutil.move(place / "index.json", tmp_path / "elsewhere")
    (place / "index.json").symlink_to(tmp_path / "elsewhere")
    for act in (lambda: get(place, tmp_path / "out"), lambda: publish(bundle, place)):
        with pytest.raises(PublishError, match="a symbolic link is not followed") as caught:
            act()
        assert caught.value.hint == "remove it, then publish there again"
    (place / "index.json").unlink()
    publish(bundle, place)
    get(place, tmp_path / "out")
