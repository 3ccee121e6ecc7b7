"""Processes that die before any of their file operations: the old bundle or the new one is there, never less."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.publish.collect import collect_bundles
from edgec.publish.folder import FolderStore
from edgec.publish.location import FolderLocation
from edgec.publish.pull import PulledBundle, pull
from edgec.publish.store import PublishResult
from edgec.publish.transfer import RetryPolicy

MakeBundle = Callable[..., Path]


def publish(bundle: Path, location: Path) -> PublishResult:
    found = collect_bundles([bundle], lambda step: None)
    return FolderStore(FolderLocation(location), RetryPolicy()).publish(found, add=False, progress=lambda step: None)


def get(location: Path, out: Path) -> list[PulledBundle]:
    return list(pull(FolderLocation(location), ["*"], out))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file but what is under .work."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode) & 0o700)
        for path in folder.rglob("*")
        if path.is_file() and ".work" not in path.parts
    }


def crash_at(number: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies, as by SIGKILL, before what it does `number`-th to files; whether it died."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link", "open"}:
            seen += 1
            if seen == number:
                os._exit(9)

    sys.addaudithook(watch)
    try:
        action()
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses nothing that it has written, and many flushes take minutes."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.mark.usefixtures("no_sync")
def test_a_publish_that_is_killed_anywhere_leaves_the_old_or_the_new(tmp_path: Path, make_bundle: MakeBundle) -> None:
    old, new = make_bundle(tmp_path / "old"), make_bundle(tmp_path / "new", model=b"new")
    publish(old, tmp_path / "before")
    versions = [contents(old), contents(new)]
    found = set()
    for number in range(1, 10_000):
        location, out = tmp_path / f"location-{number}", tmp_path / f"out-{number}"
        shutil.copytree(tmp_path / "before", location)
        died = crash_at(number, lambda location=location: publish(new, location))  # type: ignore[misc]
        (pulled,) = get(location, out)
        found.add(versions.index(contents(pulled.path)))
        publish(new, location)
        get(location, out)
        assert contents(pulled.path) == contents(new)
        assert [path.name for path in (location / ".work").iterdir()] == []
        shutil.rmtree(location)
        if not died:
            break
    assert number > 40
    assert found == {0, 1}


@pytest.mark.usefixtures("no_sync")
@pytest.mark.slow
def test_a_pull_that_is_killed_anywhere_leaves_the_old_or_the_new(tmp_path: Path, make_bundle: MakeBundle) -> None:
    old, new, location = (
        make_bundle(tmp_path / "old"),
        make_bundle(tmp_path / "new", model=b"new"),
        tmp_path / "location",
    )
    publish(old, location)
    get(location, tmp_path / "before")
    publish(new, location)
    versions = [contents(old), contents(new)]
    found = set()
    for number in range(1, 10_000):
        out = tmp_path / f"out-{number}"
        shutil.copytree(tmp_path / "before", out)
        died = crash_at(number, lambda out=out: get(location, out))  # type: ignore[misc]
        found.add(versions.index(contents(out / "x86-64-int8")))
        get(location, out)
        assert contents(out / "x86-64-int8") == contents(new)
        assert [path.name for path in (out / ".work").iterdir()] == []
        shutil.rmtree(out)
        if not died:
            break
    assert number > 40
    assert found == {0, 1}
