"""Entries are whole or absent: after damage, between processes, and when the disk refuses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgec.errors import StorageError
from edgec.storage.cache import Cache

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
    assert (cache.found, cache.stored) == (0, 1)
    assert (again.found, again.stored) == (1, 0)


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
    assert cache.found == 0
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
