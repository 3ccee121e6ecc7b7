"""A real project to break and build: the digits example, trained once for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from .command import edgec
from .sweeping import SWEEP, with_targets

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


@pytest.fixture(scope="session")
def rpi4_bundle(trained: Path) -> Path:
    """The digits bundle for rpi4-int8, all artifacts; for reading only."""
    out = trained.parent / "rpi4"
    bundle = out / "rpi4-int8"
    with filelock.FileLock(trained.parent / "rpi4.lock"):
        if not bundle.exists():
            run = edgec("build", "--target", "rpi4-int8", "--out", str(out), cwd=trained)
            assert run.code == 0, run.errors
    return bundle


@pytest.fixture
def swept_project(project: Path) -> Path:
    return with_targets(project)


@pytest.fixture(scope="session")
def undisturbed(trained: Path) -> Path:
    """A project whose sweep nothing has disturbed; for reading only."""
    folder = trained.parent / "swept"
    with filelock.FileLock(trained.parent / "swept.lock"):
        if not folder.exists():
            private = trained.parent / "sweeping"
            with_targets(shutil.copytree(trained, private))
            run = edgec(*SWEEP, "--workers", "2", cwd=private)
            assert run.code == 0, run.errors
            private.rename(folder)
    return folder
