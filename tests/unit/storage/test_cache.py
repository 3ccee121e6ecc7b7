"""Entries are whole or absent: after damage, between processes, and when the disk refuses them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgec.errors import ProjectError, StorageError
from edgec.frozen import Frozen
from edgec.storage.cache import CACHE_VARIABLE, LIMIT_VARIABLE, Cache, cache_limit, user_cache

KEY, OTHER = "a" * 64, "b" * 64
VALUE = {"sqnr_db": "Infinity", "metric": {"value": 0.1 + 0.2, "drop": -0.0}, "failure": 'says "ä"\n', "all": [1, None]}

WRITER = """
import sys
from pathlib import Path
from edgec.storage.cache import Cache

cache = Cache(Path(sys.argv[1]))
for turn in range(150):
    cache.put("shared", {"by": sys.argv[2], "turn": turn, "fill": sys.argv[2] * 5000})
    found = cache.get("shared")
    assert found is not None and found["fill"] == found["by"] * 5000, found
    cache.put(f"{sys.argv[2]}{turn}", turn)
"""


def test_what_is_put_is_found_by_another(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "made" / "later")
    assert cache.get(KEY) is None
    cache.put(KEY, VALUE)
    again = Cache(tmp_path / "made" / "later")
    assert again.get(KEY) == VALUE
    assert again.get(OTHER) is None
    assert (cache.hits, cache.stored) == (0, 1)
    assert (again.hits, again.stored) == (1, 0)


def test_a_later_value_replaces_an_earlier(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, 1)
    cache.put(KEY, [])
    assert cache.get(KEY) == []


def test_damaged_entries_are_absent_and_written_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, VALUE)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    spoilt = [whole[:length] for length in range(len(whole))]
    spoilt += [whole.replace(b"0.3", b"0.4"), whole.replace(b"value", b"valve"), b"[]", b"null", b"\xff\xfe"]
    for content in spoilt:
        assert content != whole
        file.write_bytes(content)
        assert cache.get(KEY) is None
    assert cache.hits == 0
    cache.put(KEY, VALUE)
    assert cache.get(KEY) == VALUE


def test_an_entry_under_a_foreign_name_is_absent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, VALUE)
    (file,) = tmp_path.iterdir()
    file.rename(file.with_name(file.name.replace(KEY, OTHER)))
    assert cache.get(OTHER) is None


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stderr=subprocess.PIPE, text=True)
        for name in "xy"
    ]
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""
        assert writer.returncode == 0
    cache = Cache(tmp_path)
    assert [cache.get(f"{name}{turn}") for name in "xy" for turn in range(150)] == [*range(150)] * 2
    assert len(list(tmp_path.iterdir())) == 301  # nothing unfinished is left


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        Cache(tmp_path / "file").put(KEY, VALUE)
    assert Cache(tmp_path / "file").get(KEY) is None


class Made(Frozen):
    """A result of a step."""

    name: str


class Step:
    """Writes two files and counts how often."""

    def __init__(self, out: Path) -> None:
        self.out, self.runs = out, 0

    def __call__(self) -> Made:
        self.runs += 1
        (self.out / "inner").mkdir()
        (self.out / "inner" / "a.bin").write_bytes(b"a" * 1000)
        (self.out / "b.bin").write_bytes(b"b" * 1000)
        return Made(name="made")


def test_a_step_is_run_once_and_its_files_come_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    step = Step(out)
    for _ in range(2):
        assert Cache(tmp_path / "cache").step("compile", {"x": 1}, Made, step, out) == Made(name="made")
        assert (out / "inner" / "a.bin").read_bytes() == b"a" * 1000
        assert not (out / "foreign").exists()
        (out / "foreign").write_text("of an earlier attempt")
    assert step.runs == 1
    Cache(tmp_path / "cache").step("compile", {"x": 2}, Made, step, out)
    assert step.runs == 2
    assert not (out / "foreign").exists()


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    out, cache = tmp_path / "out", Cache(tmp_path / "cache")
    step = Step(out)
    cache.step("compile", {}, Made, step, out)
    (kept,) = (tmp_path / "cache").glob("*.files/b.bin")
    for spoil in (lambda: kept.write_bytes(b"c" * 1000), kept.unlink):
        spoil()
        cache.step("compile", {}, Made, step, out)
        assert (out / "b.bin").read_bytes() == b"b" * 1000
        assert kept.read_bytes() == b"b" * 1000
    assert step.runs == 3


def test_what_fails_or_is_not_to_be_kept_is_made_again(tmp_path: Path) -> None:
    out, cache = tmp_path / "out", Cache(tmp_path / "cache")
    step = Step(out)
    for _ in range(2):
        cache.step("run", {}, Made, step, out, keep=lambda made: made.name != "made")
    assert step.runs == 2
    assert not list(cache.entries())


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache, out = Cache(tmp_path / "file"), tmp_path / "out"
    assert cache.step("compile", {}, Made, Step(out), out) == Made(name="made")
    assert "cannot write" in cache.problem


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    out, cache = tmp_path / "out", Cache(tmp_path / "cache")
    for k in range(4):
        cache.step("compile", {"k": k}, Made, Step(out), out)
        for entry in cache.entries():
            os.utime(entry.file, (entry.used - 10, entry.used - 10))
    cache.step("compile", {"k": 0}, Made, Step(out), out)  # reading counts as use
    sizes = [entry.bytes for entry in cache.entries()]
    assert [entry.what for entry in cache.entries()] == ["compile"] * 4
    assert min(sizes) > 2000
    cache.trim(2 * max(sizes))
    steps = [Step(out) for _ in range(4)]
    for k in (0, 3, 1, 2):
        cache.step("compile", {"k": k}, Made, steps[k], out)
    assert [step.runs for step in steps] == [0, 1, 1, 0]
    cache.trim(0)
    assert not list((tmp_path / "cache").iterdir())


def test_files_of_a_killed_writer_go_after_a_while(tmp_path: Path) -> None:
    out, cache = tmp_path / "out", Cache(tmp_path / "cache")
    cache.step("compile", {}, Made, Step(out), out)
    (entry,) = cache.entries()
    entry.file.unlink()
    cache.trim(1e9)
    (left,) = (tmp_path / "cache").iterdir()
    os.utime(left, (0, 0))
    cache.trim(1e9)
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_of_a_user_and_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "here"))
    assert user_cache().folder == tmp_path / "here"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache().folder == tmp_path / "edgec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache().folder == Path.home() / ".cache" / "edgec"
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert cache_limit() == 10e9
    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    assert cache_limit() == 0.5e9
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv(LIMIT_VARIABLE, wrong)
        with pytest.raises(ProjectError, match="number of gigabytes"):
            cache_limit()


def test_a_user_without_a_home_has_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = user_cache().folder
    assert folder.parent == tmp_path
    user_cache().put(KEY, VALUE)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProjectError, match="another user"):
        user_cache()
