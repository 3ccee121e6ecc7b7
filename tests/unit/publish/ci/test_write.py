"""Where the files are written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import StorageError, UsageError
from edgec.publish.ci.write import KINDS, TABLE, Kind, write_ci


def write(kind: Kind, root: Path, *, force: bool = False) -> Path:
    return write_ci(kind, root, patterns=(), names=("rpi4-int8",), version="1.2.3", force=force)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_written_to_its_place(kind: Kind, tmp_path: Path) -> None:
    assert write(kind, tmp_path) == tmp_path / TABLE[kind].path
    assert "rpi4-int8" in (tmp_path / TABLE[kind].path).read_text() or kind == "github"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_there_stays(kind: Kind, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    path.write_text("mine")
    with pytest.raises(UsageError, match="already"):
        write(kind, tmp_path)
    assert path.read_text() == "mine"
    assert write(kind, tmp_path, force=True).read_text() != "mine"


def test_a_link_that_leads_nowhere_is_something_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "Makefile").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        write("make", tmp_path)
    write("make", tmp_path, force=True)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("kind", "path"), [("github", ".github/workflows/edgec.yml"), ("gitlab", ".gitlab-ci.yml")])
def test_jobs_of_a_repository_are_at_its_root(kind: Kind, path: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    project = tmp_path / "models" / "kws"
    project.mkdir(parents=True)
    assert write(kind, project).samefile(tmp_path / path)
    assert "models/kws/dist" in (tmp_path / path).read_text()
    assert write("make", project) == project / "Makefile"


def test_folders_that_would_need_quotes_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    project = tmp_path / "my ${{ secrets.KEY }}"
    project.mkdir()
    with pytest.raises(UsageError, match="the folder in a CI file"):
        write("github", project)
    assert not (tmp_path / ".github").exists()


@pytest.mark.parametrize("pattern", ["a\nb*", "[!$(id)]*", "${{ secrets.KEY }}*", "a'*", ""])
def test_patterns_that_would_need_more_than_quotes_are_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="targets in a CI file"):
        write_ci("github", tmp_path, patterns=("rpi4-*", pattern), names=("rpi4-int8",), version="1.2.3", force=False)
    assert not (tmp_path / ".github").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / ".github").write_text("a file")
    with pytest.raises(StorageError):
        write("github", tmp_path)
