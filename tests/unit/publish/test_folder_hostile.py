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
from edgec.bundle.manifest import MANIFEST
from edgec.bundle.write import digest_file
from edgec.errors import PublishError, TargetError, UsageError
from edgec.publish.collect import collect_bundles
from edgec.publish.folder import FolderStore
from edgec.publish.location import FolderLocation
from edgec.publish.place import Accepted
from edgec.publish.pull import PulledBundle, pull
from edgec.publish.transfer import RetryPolicy

MakeBundle = Callable[..., Path]
QUICK = RetryPolicy(timeout=0.2, retries=1, wait=0.01)
ESCAPE = "\x1b]0;pwned\x07"


def publish(bundle: Path, location: Path, *, add: bool = False) -> None:
    found = collect_bundles([bundle], lambda step: None)
    FolderStore(FolderLocation(location), QUICK).publish(found, add=add, progress=lambda step: None)


def get(location: Path, out: Path, *patterns: str) -> list[PulledBundle]:
    return list(pull(FolderLocation(location), patterns or ("*",), out, policy=QUICK))


def test_a_bundle_stays_one(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, other = make_bundle(tmp_path / "dist"), make_bundle(tmp_path / "other", "rpi4-int8")
    publish(bundle, tmp_path / "location")
    for act in (publish, get):
        for inside in (other, other / "bench", other / "new"):
            with pytest.raises(UsageError, match="this is a bundle") as caught:
                act(bundle if act is publish else tmp_path / "location", inside)  # type: ignore[operator]
            assert caught.value.hint == f"name the folder above: {tmp_path / 'other'}"
    check_digests(other)
    assert not (other / ".work").exists()


@pytest.mark.parametrize("target", [ESCAPE, "../../x", ".work", ""])
@pytest.mark.parametrize("key", ["bundles", "replacing"])
def test_targets_of_an_index_are_checked_as_it_is_read(
    tmp_path: Path, make_bundle: MakeBundle, target: str, key: str
) -> None:
    bundle, location = make_bundle(tmp_path / "dist"), tmp_path / "location"
    publish(bundle, location)
    index = json.loads((location / "index.json").read_text())
    index[key][target] = index["bundles"]["x86-64-int8"]
    (location / "index.json").write_text(json.dumps(index))
    for act in (
        lambda: get(location, tmp_path / "in" / "out", "nope"),
        lambda: get(location, tmp_path / "in" / "out"),
        lambda: publish(bundle, location, add=True),
    ):
        with pytest.raises(PublishError, match="is not a valid target name") as caught:
            act()
        assert ascii(target) in caught.value.what
        assert "\x1b" not in str(caught.value)
    assert json.loads((location / "index.json").read_text()) == index
    (location / "index.json").write_text(json.dumps({**index, "bundles": {ESCAPE: 1}, "replacing": {}}))
    with pytest.raises(PublishError, match="index is damaged") as caught:
        get(location, tmp_path / "in" / "out")
    assert "\x1b" not in str(caught.value)
    (location / "index.json").unlink()  # as the hint says
    publish(bundle, location)
    with pytest.raises(TargetError, match="nope"):
        get(location, tmp_path / "in" / "out", "nope")


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_modes_are_by_name_whatever_the_place_has(tmp_path: Path, make_bundle: MakeBundle, mask: int) -> None:
    location = tmp_path / "location"
    publish(make_bundle(tmp_path / "dist"), location)
    published = location / "x86-64-int8"
    for path in (file for file in published.rglob("*") if file.is_file()):
        path.chmod(0o644 if path.suffix in {".sh", ".py"} else 0o755)
    before = os.umask(mask)
    try:
        (one,) = get(location, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.name for path in one.path.rglob("*") if path.is_file() and path.stat().st_mode & stat.S_IXUSR} == {
        "bench.py",
        "run.sh",
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (one.path, *one.path.rglob("*"))}
    assert modes == {0o755, 0o644}
    (one.path / "bench" / "run.sh").chmod(0o644)
    assert [again.changed for again in get(location, tmp_path / "out")] == [True]
    assert (one.path / "bench" / "run.sh").stat().st_mode & stat.S_IXUSR


def test_what_is_no_folder_of_bundles_is_told(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, location = make_bundle(tmp_path / "dist"), tmp_path / "location"
    with pytest.raises(PublishError, match="this is a file, not a folder") as caught:
        get(bundle / "model.onnx", tmp_path / "out")
    assert "DIR" in caught.value.hint
    publish(bundle, location)
    shutil.move(location / "index.json", tmp_path / "elsewhere")
    (location / "index.json").symlink_to(tmp_path / "elsewhere")
    for act in (lambda: get(location, tmp_path / "out"), lambda: publish(bundle, location)):
        with pytest.raises(PublishError, match="a symbolic link is not followed") as caught:
            act()
        assert caught.value.hint == "remove it, then publish there again"
    (location / "index.json").unlink()
    publish(bundle, location)
    get(location, tmp_path / "out")


def test_only_the_manifest_that_is_expected_is_pulled(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    place, out, steps = FolderLocation(tmp_path / "published"), tmp_path / "out", list[str]()
    digests, nameless = list[str](), "a bundle without a name"
    for number in (1, 2):
        bundle = make_bundle(tmp_path / str(number), model=bytes([number]))
        FolderStore(place, RetryPolicy()).publish(
            collect_bundles([bundle], steps.append), add=False, progress=steps.append
        )
        digests.append(digest_file(bundle / MANIFEST).sha256)
        (pulled,) = pull(place, ["*"], out, accepted=Accepted(manifest=digests[-1]), progress=steps.append)
        assert pulled.changed
    assert f"x86-64-int8: {nameless} is replaced by {nameless}, manifest {digests[0]} by {digests[1]}" in steps
    with pytest.raises(PublishError, match=f"sha256:{digests[1]}, not sha256:{digests[0]} as expected"):
        list(pull(place, ["*"], out, accepted=Accepted(manifest=digests[0])))
    assert digest_file(out / "x86-64-int8" / MANIFEST).sha256 == digests[1]
    with pytest.raises(UsageError, match="is not a SHA-256"):
        list(pull(place, ["*"], out, accepted=Accepted(manifest="latest")))
