"""Temporary folders go with their process, and none is made in another way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import edgec
from edgec.storage.temporary import lasting_folder, private_folder, remove_private_folders, sweep

ROOT = Path(edgec.__file__).parents[1]
OTHER_WAYS = re.compile(r"tempfile\.(TemporaryDirectory|mkdtemp|mkstemp|mktemp|NamedTemporaryFile)|FileLock\(")


def sources() -> list[Path]:
    return [*(ROOT / "edgec").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]


def test_no_other_way_of_making_temporary_files_and_guards_is_used() -> None:
    assert len(sources()) > 300
    assert [str(file) for file in sources() if OTHER_WAYS.search(file.read_text())] == []


def test_a_folder_is_private_and_goes_at_the_end(tmp_path: Path) -> None:
    with private_folder(tmp_path, "new-") as folder:
        assert re.fullmatch(rf"new-{os.getpid()}-[0-9a-f]{{8}}", folder.name)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_without_a_base_it_is_among_the_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with private_folder() as folder:
        assert folder.parent == tmp_path
    lasting = lasting_folder()
    assert lasting.is_dir()
    remove_private_folders()  # as at the end of the process
    assert list(tmp_path.iterdir()) == []


ENDS = """
import os, signal, sys
from pathlib import Path
from edgec.storage.temporary import private_folder
context = private_folder(Path(sys.argv[1]), "new-")
context.__enter__()
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_left_goes_with_its_process_or_with_the_next_one(tmp_path: Path) -> None:
    for end, left in (("return", 0), ("kill", 1)):
        subprocess.run([sys.executable, "-c", ENDS, str(tmp_path), end], check=False)
        assert len(list(tmp_path.iterdir())) == left
    with private_folder(tmp_path, "other-"):
        assert len(list(tmp_path.glob("new-*"))) == 1  # another prefix
    with private_folder(tmp_path, "new-") as folder:
        assert list(tmp_path.iterdir()) == [folder]


HOLD = """
import os, sys
from pathlib import Path
from edgec.storage.temporary import private_folder
os.getpid = lambda: 1 << 30  # as in another container: no such process here
with private_folder(Path(sys.argv[1])):
    print("there", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_is_used_in_another_container_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        sweep(tmp_path, "")
        assert len(list(tmp_path.iterdir())) == 1
        other.kill()
    sweep(tmp_path, "")
    assert list(tmp_path.iterdir()) == []


def test_links_and_other_folders_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / f"{1 << 30}-0a0a0a0a").symlink_to(tmp_path / "real")
    (tmp_path / f"{1 << 30}-file").mkdir()
    (tmp_path / f"{1 << 30}-0b0b0b0b").write_text("x")
    sweep(tmp_path, "")
    assert len(list(tmp_path.iterdir())) == 4
