"""Locks and logs outside of projects are where no other user can write."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import StorageError
from edgec.storage import own_folder as module
from edgec.storage.own_folder import new_log, own_folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """Where the folder is looked for, instead of /tmp, TMPDIR and the home."""
    folders = tmp_path / "tmp", tmp_path / "other", tmp_path / "home"
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(module, "MACHINE", folders[0])
    monkeypatch.setattr(module.tempfile, "tempdir", str(folders[1]))
    monkeypatch.setenv("HOME", str(folders[2]))
    return folders


def test_it_does_not_depend_on_tmpdir(places: tuple[Path, Path, Path]) -> None:
    folder = own_folder()
    assert folder.parent == places[0]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder() == folder


def test_a_link_or_an_open_folder_in_its_place_is_not_used(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    name = own_folder().name
    (places[0] / name).rmdir()
    (tmp_path / "elsewhere").mkdir()
    (places[0] / name).symlink_to(tmp_path / "elsewhere")
    (places[1] / name).mkdir()
    (places[1] / name).chmod(0o777)
    assert own_folder() == places[2] / ".cache" / "edgec"
    (places[2] / ".cache" / "edgec").rmdir()
    (places[2] / ".cache" / "edgec").write_text("in the way")
    with pytest.raises(StorageError, match="no folder of this user's own"):
        own_folder()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_the_newest_logs_stay(places: tuple[Path, Path, Path]) -> None:
    logs = [new_log("internal") for _ in range(25)]
    there = set((own_folder() / "logs").iterdir())
    assert len(there) == 20
    assert logs[-1] in there
    assert logs[-1].stat().st_mode & 0o777 == 0o600
