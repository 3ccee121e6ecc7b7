"""Which Python files count as the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.dataset.python_files import python_files


def found(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in python_files(folder)]


def test_files_of_all_subfolders_in_order(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "notes.txt", "pkg/z.py", "pkg/deep/er/c.py", "app/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert found(tmp_path) == ["a.py", "b.py", "app/x.py", "pkg/z.py", "pkg/deep/er/c.py"]
    assert found(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("folder", "beside"),
    [
        (".hidden", ""),
        ("site-packages", ""),
        ("node_modules", ""),
        ("__pycache__", ""),
        ("environment", "environment/pyvenv.cfg"),
        ("dist/rpi4", "dist/rpi4/report.html"),
        ("dist/rpi4/bench", "dist/rpi4/bench/run.py"),
    ],
)
def test_what_is_not_the_users_is_left_out(tmp_path: Path, folder: str, beside: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "a.py").write_text("")
    if beside:
        (tmp_path / beside).write_text("")
    if folder.startswith("dist"):
        assert found(tmp_path)  # a folder like any other without a manifest
        (tmp_path / "dist" / "rpi4" / "manifest.json").write_text("{}")
    assert found(tmp_path) == []
