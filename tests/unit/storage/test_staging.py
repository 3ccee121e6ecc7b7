"""A folder appears complete or not at all, and killed processes leave nothing that stays."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edgec.errors import StorageError
from edgec.storage import staging
from edgec.storage.files import storage_errors
from edgec.storage.staging import destination_lock, remove_folder, replace_folder, stage


def replace(destination: Path, content: str) -> None:
    with stage(destination.parent) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(content)
        replace_folder(folder, destination)


def left_over(parent: Path) -> list[str]:
    return sorted(path.name for path in (parent / ".work").iterdir() if not path.name.endswith(".lock"))


def test_removing(tmp_path: Path) -> None:
    destination = tmp_path / "rpi4"
    replace(destination, "old")
    remove_folder(destination)
    assert not destination.exists()
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("name", ["mkdir", "rmdir"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_at_any_moment_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    real, sent = getattr(os, name), []

    def interrupted(path: Any, *args: Any, **options: Any) -> None:
        first = "stage-" in str(path) and not sent
        sent.extend([1] * first)
        if first and when == "before":
            signal.raise_signal(signal.SIGINT)
        real(path, *args, **options)
        if first and when == "after":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, name, interrupted)
    with pytest.raises(KeyboardInterrupt), stage(tmp_path):
        assert name == "rmdir"
    assert sent
    assert left_over(tmp_path) == []


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    destination = tmp_path / "dist" / "rpi4"
    replace(destination, "old")
    (destination / "only-in-old").write_text("")
    replace(destination, "new")
    assert (destination / "sub" / "file").read_text() == "new"
    assert sorted(path.name for path in destination.iterdir()) == ["sub"]
    assert left_over(destination.parent) == []


def test_it_does_so_where_folders_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = tmp_path / "rpi4"
    replace(destination, "old")
    monkeypatch.setattr(staging, "_RENAME_EXCHANGE", 1 << 30)  # EINVAL, as on file systems without it
    replace(destination, "new")
    assert (destination / "sub" / "file").read_text() == "new"
    assert left_over(tmp_path) == []


def test_at_each_moment_there_is_a_folder(tmp_path: Path) -> None:
    destination = tmp_path / "rpi4"
    replace(destination, "0")
    done = threading.Event()

    def build() -> None:
        for number in range(60):
            replace(destination, str(number))
        done.set()

    missing = looks = 0
    builder = threading.Thread(target=build)
    builder.start()
    while not done.is_set():
        looks += 1
        missing += not destination.exists()
    builder.join()
    assert looks > 60
    assert missing == 0


def test_the_old_folder_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    destination = tmp_path / "rpi4"
    replace(destination, "old")
    with contextlib.suppress(IsADirectoryError), stage(tmp_path) as folder:
        (folder / "half").mkdir()
        (folder / "half").write_text("")
    assert (destination / "sub" / "file").read_text() == "old"
    assert left_over(tmp_path) == []


def test_stages_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    work = tmp_path / ".work"
    for name in (f"stage-{dead_process()}-0a0a0a0a", f"stage-{os.getppid()}-0b0b0b0b", "stage-odd-c"):
        (work / name).mkdir(parents=True)
        (work / name / "file").write_text("x")
    with stage(tmp_path) as folder:
        assert folder.parent == work
        assert left_over(tmp_path) == sorted([f"stage-{os.getppid()}-0b0b0b0b", "stage-odd-c", folder.name])


HOLD = """
import sys
from pathlib import Path
from edgec.storage.staging import destination_lock
with destination_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_writer_of_a_folder_at_a_time_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    destination = tmp_path / "rpi4"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(destination)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        got = threading.Event()

        def wait() -> None:
            with destination_lock(destination):
                got.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        with destination_lock(tmp_path / "rpi5"):  # another folder is not locked
            assert not got.wait(0.3)
        other.kill()
        waiter.join(10)
        assert got.is_set()


@pytest.mark.parametrize(
    ("code", "what", "hint"),
    [
        (errno.ENOSPC, "no space left on device", "free some space"),
        (errno.EDQUOT, "disk quota exceeded", "quota"),
        (errno.EROFS, "read-only file system", "read-only"),
        (errno.EACCES, "permission denied", "permissions"),
        (errno.EIO, "input/output error", ""),
    ],
)
def test_refusals_to_write_have_hints(code: int, what: str, hint: str) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(Path("dist")):
        raise OSError(code, os.strerror(code), "dist/file")
    assert caught.value.what == f"cannot write: {what}"
    assert caught.value.where == "dist/file"
    assert hint in caught.value.hint


def test_a_full_disk_and_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write: no space"), storage_errors(tmp_path):
        Path("/dev/full").write_text("x")
    (tmp_path / "dist").write_text("a file")
    with pytest.raises(StorageError), stage(tmp_path / "dist"):
        pytest.fail("there is no such stage")
    with pytest.raises(StorageError), destination_lock(tmp_path / "dist" / "rpi4"):
        pytest.fail("there is no such lock")
