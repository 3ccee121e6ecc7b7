"""Guards are beside what they guard, follow no links, exclude everyone else and go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgec.errors import StorageError
from edgec.lock.file import LOCK, write_lock
from edgec.storage.guard import guarded

COUNT = """
import sys
from pathlib import Path
from edgec.storage.guard import guarded
number = Path(sys.argv[1], "number")
for _ in range(100):
    with guarded(number.with_name("guard")):
        number.write_text(str(int(number.read_text()) + 1))
"""


def test_processes_with_different_folders_of_temporary_files_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    running = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        environment = os.environ | {"TMPDIR": str(tmp_path / name)}
        running.append(subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)], env=environment))
    assert [process.wait() for process in running] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "300"
    assert not (tmp_path / "guard").exists()


def test_threads_wait_and_are_told_so(tmp_path: Path) -> None:
    told: list[str] = []
    done = threading.Event()

    def other() -> None:
        with guarded(tmp_path / "guard", waiting=lambda: told.append("waits")):
            done.set()

    with guarded(tmp_path / "guard"):
        thread = threading.Thread(target=other)
        thread.start()
        assert not done.wait(0.2)
        with pytest.raises(TimeoutError), guarded(tmp_path / "guard", timeout=0.1):
            pytest.fail("another one holds it")
    thread.join(10)
    assert done.is_set()
    assert told == ["waits"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["link", "dangling link", "folder", "pipe"])
def test_what_is_not_a_guard_is_refused_and_left_as_it_is(tmp_path: Path, what: str) -> None:
    guard, victim = tmp_path / f".{LOCK}.guard", tmp_path / "victim"
    victim.write_text("precious")
    if what == "folder":
        guard.mkdir()
    elif what == "pipe":
        os.mkfifo(guard)
    else:
        guard.symlink_to(victim if what == "link" else tmp_path / "nothing")
    began = time.monotonic()
    with pytest.raises(StorageError, match="something that is not edgec's is in the place of a guard"):
        write_lock(tmp_path, "rpi4", {}, {}, ())
    assert time.monotonic() - began < 5
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()
    assert os.path.lexists(guard)


def test_a_lock_file_leaves_no_guard(tmp_path: Path) -> None:
    write_lock(tmp_path, "rpi4", {"model": "x"}, {}, ())
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
