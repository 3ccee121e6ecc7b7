"""Folders that only the user who sealed them takes back."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgec.storage.sealed import seal, unseal, user_key

KEY, OTHER = b"k" * 32, b"o" * 32
TOLD = {"summary": "half of it", "share": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder with a file in a subfolder."""
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "graph.pt").write_bytes(b"pickle")
    (made / "deep" / "data").write_bytes(b"more")
    seal(made, "told.json", TOLD, "name", KEY)
    return made


def taken(folder: Path, name: str = "name", key: bytes = KEY) -> object:
    return unseal(folder, "told.json", name, key, folder.parent / "private")


def test_what_was_sealed_is_taken_and_copied(folder: Path) -> None:
    assert taken(folder) == TOLD
    assert (folder.parent / "private" / "deep" / "data").read_bytes() == b"more"


@pytest.mark.parametrize("file", ["graph.pt", "deep/data"])
def test_a_tampered_file_is_absent(folder: Path, file: str) -> None:
    (folder / file).write_bytes(b"pickle!")
    assert taken(folder) is None
    assert not (folder.parent / "private").exists()


def test_a_file_more_or_less_is_absent(folder: Path) -> None:
    (folder / "extra.py").write_text("")
    assert taken(folder) is None
    (folder / "extra.py").unlink()
    assert taken(folder) == TOLD
    shutil.rmtree(folder.parent / "private")
    (folder / "graph.pt").unlink()
    assert taken(folder) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("told", {"share": 0.9}), ("files", {}), ("name", "other"), ("hmac", "0" * 64), ("hmac", None), ("hmac", "é")],
)
def test_a_tampered_record_is_absent(folder: Path, name: str, value: object) -> None:
    record = json.loads((folder / "told.json").read_text())
    (folder / "told.json").write_text(json.dumps({**record, name: value}))
    assert taken(folder) is None


@pytest.mark.parametrize("text", ["", "[]", "null", "{}"])
def test_a_record_that_is_none_is_absent(folder: Path, text: str) -> None:
    (folder / "told.json").write_text(text)
    assert taken(folder) is None


def test_of_another_key_or_name_or_not_there(folder: Path) -> None:
    assert taken(folder, key=OTHER) is None
    assert taken(folder, name="another") is None
    assert taken(folder.parent / "none") is None


def test_the_key_is_private_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: user_key(), range(16)))
    assert len(keys) == 1
    (key,) = keys
    file = tmp_path / "state" / "edgec" / "key"
    assert key is not None
    assert file.read_bytes() == key
    assert len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in file.parent.iterdir()] == ["key"]
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_key() not in (None, key)
    assert (tmp_path / "home" / ".local" / "state" / "edgec" / "key").is_file()


def test_a_key_that_others_may_know_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    key, file = user_key(), tmp_path / "edgec" / "key"
    file.chmod(0o640)
    assert user_key() is None
    file.chmod(0o600)
    assert user_key() == key
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert user_key() is None
    file.unlink()
    file.write_bytes(b"short")
    file.chmod(0o600)
    assert user_key() is None


def test_where_nothing_can_be_kept_there_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert user_key() is None
