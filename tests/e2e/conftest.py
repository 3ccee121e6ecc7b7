"""A real project to break and build: the digits example, trained once for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
SOURCES = ("model.py", "train.py", "edgec.toml")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the digits example after its training; test processes share it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "digits"
    with filelock.FileLock(shared / "digits.lock"):
        if not (folder / "model.pt").exists():
            folder.mkdir(exist_ok=True)
            for name in SOURCES:
                shutil.copy(DIGITS / name, folder)
            subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """A private copy of the trained example."""
    return shutil.copytree(trained, tmp_path / "project")
