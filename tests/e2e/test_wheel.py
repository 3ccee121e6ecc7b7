"""The wheel holds all that an installed edgec needs: the files that are data, and what the symlinks lead to."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked(folder: str, pattern: str) -> set[str]:
    """Files of the source tree, by their path in the wheel."""
    return {f"edgec/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob(pattern)}


def test_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"  # setuptools leaves a folder "build" where it works, which later wheels would include
    for name in ("edgec", "backends", "targets"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("edgec-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert tracked("targets", "*.toml") <= names
    assert tracked("backends", "*.py") <= names
    data = {
        "edgec/edgec.mk",
        "edgec/publish/ci/templates/Makefile",
        "edgec/publish/ci/templates/github.yml",
        "edgec/publish/ci/templates/gitlab.yml",
        "edgec/report/report.html.j2",
        "edgec/bundle/bench/harness/bench.py",
        "edgec/bundle/bench/harness/run.sh",
    }
    assert data <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not {name for name in names if name.startswith(("tests/", "backends/", "targets/"))}
