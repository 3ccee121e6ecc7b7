from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from edgec.bundle.check import check_digests
from edgec.errors import BundleError, PublishError, StorageError, UsageError
from edgec.publish.collect import collect_bundles
from edgec.publish.folder import FolderStore
from edgec.publish.location import FolderLocation
from edgec.publish.pull import PulledBundle, pull
from edgec.publish.store import PublishResult
from edgec.publish.transfer import RetryPolicy

MakeBundle = Callable[..., Path]
QUICK = RetryPolicy(timeout=0.2, retries=1, wait=0.01)


def publish(bundle: Path, location: Path, *, add: bool = False) -> PublishResult:
    found = collect_bundles([bundle], lambda step: None)
    return FolderStore(FolderLocation(location), QUICK).publish(found, add=add, progress=lambda step: None)


def get(location: Path, out: Path, *patterns: str) -> list[PulledBundle]:
    return list(pull(FolderLocation(location), patterns or ("*",), out, policy=QUICK))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file but what is under .work."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode) & 0o700)
        for path in folder.rglob("*")
        if path.is_file() and ".work" not in path.parts
    }


def test_a_published_folder_has_ordinary_bundles(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path / "dist")
    done = publish(tmp_path / "dist", tmp_path / "location")
    assert (done.targets, done.changed, done.kept) == (("x86-64-int8",), True, 0)
    assert done.reference == str(tmp_path / "location")
    assert contents(tmp_path / "location" / "x86-64-int8") == contents(bundle)
    check_digests(tmp_path / "location" / "x86-64-int8")
    index = json.loads((tmp_path / "location" / "index.json").read_text())
    files = {file["name"]: file["size"] for file in index["bundles"]["x86-64-int8"]["files"]}
    assert files == {name: len(content) for name, (content, _) in contents(bundle).items()}
    assert [path.name for path in (tmp_path / "location" / ".work").iterdir()] == []
    (pulled,) = get(tmp_path / "location", tmp_path / "out")
    assert pulled == PulledBundle(
        "x86-64-int8", tmp_path / "out" / "x86-64-int8", changed=True, key="", title="a bundle without a name"
    )
    assert contents(pulled.path) == contents(bundle)
    assert all(path.stat().st_nlink == 1 for path in pulled.path.rglob("*") if path.is_file())


def test_nothing_is_copied_twice(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path)
    publish(bundle, tmp_path / "location")
    get(tmp_path / "location", tmp_path / "out")
    seen = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file() and ".work" not in path.parts}
    again = publish(bundle, tmp_path / "location")
    assert (again.sent, again.sent_bytes, again.changed) == (0, 0, False)
    assert [one.changed for one in get(tmp_path / "location", tmp_path / "out")] == [False]
    assert all(
        (path.stat().st_ino, path.stat().st_mtime_ns) == (was.st_ino, was.st_mtime_ns) for path, was in seen.items()
    )


def test_add_keeps_what_is_there_and_the_default_does_not(tmp_path: Path, make_bundle: MakeBundle) -> None:
    one, two, location = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", "rpi4-int8"), tmp_path / "location"
    publish(one, location)
    assert publish(two, location, add=True).targets == ("rpi4-int8", "x86-64-int8")
    done = publish(two, location)
    assert done.targets == ("rpi4-int8",)
    assert done.changed
    assert done.notes == ("x86-64-int8 is not published there any more; its folder is kept",)
    check_digests(location / "x86-64-int8")
    assert [pulled.target for pulled in get(location, tmp_path / "out")] == ["rpi4-int8"]


def test_a_new_version_replaces_the_old(tmp_path: Path, make_bundle: MakeBundle) -> None:
    old, new = make_bundle(tmp_path / "old"), make_bundle(tmp_path / "new", model=b"new")
    for bundle in (old, new):
        publish(bundle, tmp_path / "location")
        get(tmp_path / "location", tmp_path / "out")
        assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)
    assert "replacing" in json.loads((tmp_path / "location" / "index.json").read_text())
    assert json.loads((tmp_path / "location" / "index.json").read_text())["replacing"] == {}


def test_damage_is_refused_and_mended_by_publishing_again(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, location = make_bundle(tmp_path), tmp_path / "location"
    publish(bundle, location)
    model = location / "x86-64-int8" / "model.onnx"
    damages: list[Callable[[], object]] = [
        lambda: model.write_bytes(b"!" + model.read_bytes()[1:]),
        lambda: model.write_bytes(model.read_bytes() + b"!"),
        lambda: model.write_bytes(model.read_bytes()[:-1]),
        model.unlink,
        lambda: (location / "x86-64-int8" / "manifest.json").write_text("{}"),
        lambda: (location / "x86-64-int8" / "report.html").write_text("<i>"),
        lambda: shutil.rmtree(location / "x86-64-int8"),
    ]
    for damage in damages:
        damage()
        with pytest.raises(PublishError):
            get(location, tmp_path / "out")
        assert not (tmp_path / "out" / "x86-64-int8").exists()
        shutil.rmtree(tmp_path / "out")
        assert publish(bundle, location).sent == len(contents(bundle))
        get(location, tmp_path / "out")
        assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"!")])
def test_a_file_that_changes_while_it_is_sent(
    tmp_path: Path, make_bundle: MakeBundle, change: Callable[[Path], object]
) -> None:
    publish(make_bundle(tmp_path / "old"), tmp_path / "location")
    before = contents(tmp_path / "location")
    bundle = make_bundle(tmp_path / "new", model=b"new")
    found = collect_bundles([bundle], lambda step: None)
    change(bundle / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        FolderStore(FolderLocation(tmp_path / "location"), QUICK).publish(found, add=False, progress=lambda step: None)
    assert contents(tmp_path / "location") == before


@pytest.mark.parametrize("name", ["model.onnx", "bench", "manifest.json", ""])
def test_links_in_a_published_bundle_are_not_followed(tmp_path: Path, make_bundle: MakeBundle, name: str) -> None:
    bundle, location = make_bundle(tmp_path), tmp_path / "location"
    publish(bundle, location)
    inside = location / "x86-64-int8" / name
    shutil.move(inside, tmp_path / "outside")
    inside.symlink_to(tmp_path / "outside")
    with pytest.raises(PublishError, match="symbolic link"):
        get(location, tmp_path / "out")
    assert not (tmp_path / "out" / "x86-64-int8").exists()
    if name:
        publish(bundle, location)
        assert not inside.is_symlink()
    else:
        with pytest.raises(StorageError, match="not a bundle is in the way"):
            publish(bundle, location)
    kept = tmp_path / "outside"
    assert kept.exists()


def test_a_pipe_in_a_published_bundle_does_not_hang(tmp_path: Path, make_bundle: MakeBundle) -> None:
    publish(make_bundle(tmp_path), tmp_path / "location")
    (tmp_path / "location" / "x86-64-int8" / "model.onnx").unlink()
    os.mkfifo(tmp_path / "location" / "x86-64-int8" / "model.onnx")
    with pytest.raises(PublishError, match="not a regular file"):
        get(tmp_path / "location", tmp_path / "out")


def test_a_link_in_a_bundle_is_not_published(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path)
    shutil.move(bundle / "model.onnx", tmp_path / "m")
    (bundle / "model.onnx").symlink_to(tmp_path / "m")
    with pytest.raises(BundleError, match="symbolic link"):
        publish(bundle, tmp_path / "location")
    assert not (tmp_path / "location").exists()


def test_foreign_folders_are_left_alone(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path)
    mine = tmp_path / "location" / "x86-64-int8" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(StorageError, match="not a bundle is in the way"):
        publish(bundle, tmp_path / "location")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "location" / "index.json").exists()
    with pytest.raises(StorageError, match="cannot write"):
        publish(bundle, mine)


def test_a_bundle_is_not_published_into_itself(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tmp_path / "dist")
    for location in (tmp_path / "dist", bundle, bundle / "bench"):
        with pytest.raises(UsageError, match="into its own folder"):
            publish(bundle, location)
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == ["x86-64-int8"]


def test_only_one_publishes_at_a_time(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, location = make_bundle(tmp_path), tmp_path / "location"
    publish(bundle, location)
    with filelock.FileLock(location / ".work" / "publish.lock"), pytest.raises(PublishError, match="another publish"):
        publish(bundle, location)


def test_indexes_that_cannot_be(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle, location = make_bundle(tmp_path), tmp_path / "location"
    with pytest.raises(PublishError, match="this folder does not exist"):
        get(location, tmp_path / "out")
    location.mkdir()
    with pytest.raises(PublishError, match="nothing is published in this folder"):
        get(location, tmp_path / "out")
    publish(bundle, location)
    good = json.loads((location / "index.json").read_text())
    entry = good["bundles"]["x86-64-int8"]
    escaping = {
        **entry,
        "files": [*entry["files"], {"name": "../../x", "sha256": "0" * 64, "size": 1}],
    }
    fewer = {**entry, "files": [file for file in entry["files"] if file["name"] != "model.onnx"]}
    for index, words in [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "edgec did not write this index"),
        (json.dumps({**good, "schema_version": 2}), "a newer edgec"),
        (json.dumps({**good, "bundles": 1}), "damaged: bundles"),
        (json.dumps({**good, "bundles": {"x86-64-int8": {**entry, "manifest": "0" * 64}}}), "contradicts itself"),
        (json.dumps({**good, "bundles": {"../x": entry}}), "refused"),
        (json.dumps({**good, "bundles": {"x86-64-int8": escaping}}), "leaves the bundle"),
        (json.dumps({**good, "bundles": {"x86-64-int8": fewer}}), "index and manifest disagree about 'model.onnx'"),
    ]:  # fmt: skip
        (location / "index.json").write_text(index)
        with pytest.raises(PublishError, match=words):
            get(location, tmp_path / "out")
        assert not (tmp_path / "out" / "x86-64-int8").exists()
        assert not (tmp_path / "x").exists()
    (location / "index.json").write_text(json.dumps({**good, "bundles": {"rpi4-int8": entry}}))
    shutil.copytree(location / "x86-64-int8", location / "rpi4-int8")
    with pytest.raises(PublishError, match="the index states the target rpi4-int8, the manifest x86-64-int8"):
        get(location, tmp_path / "out")


def test_a_publish_in_the_middle_of_a_pull(tmp_path: Path, make_bundle: MakeBundle) -> None:
    """The pull takes the new bundle whole, not files of both."""
    old, new, location = (
        make_bundle(tmp_path / "old"),
        make_bundle(tmp_path / "new", model=b"new"),
        tmp_path / "location",
    )
    publish(old, location)
    for when in ("bench/run.sh", "model.onnx", "report.html"):
        told: list[str] = []

        def progress(step: str, when: str = when, told: list[str] = told) -> None:
            if f"{when} (" in step and not told:
                publish(new, location)
            told += [step] if f"{when} (" in step or "changed in the meantime" in step else []

        (pulled,) = pull(FolderLocation(location), ("*",), tmp_path / when, policy=QUICK, progress=progress)
        late = when == "report.html"  # the last, and alike in both: the old one was received whole
        assert contents(pulled.path) == contents(old if late else new)
        assert any("changed in the meantime" in step for step in told) is not late
        publish(old, location)
