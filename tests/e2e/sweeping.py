"""Sweeps of the digits that tests disturb: what is swept, and what is looked at."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .command import Run

SWEEP = (
    "sweep", "--target", "one", "--target", "two", "--precision", "fp32,int8", "--method", "minmax",
    "--effort", "fast", "--evaluate-samples", "48", "--calibration-samples", "32",
)  # fmt: skip
CELLS = 4
Cells = dict[str, bytes]


def with_targets(project: Path) -> Path:
    """The digits with two targets, of ONNX Runtime alone."""
    (project / "targets").mkdir()
    for name, base in (("one", "x86-64-vnni-int8"), ("two", "x86-64-int8")):
        text = f'extends = "{base}"\n[[emit]]\nbackend = "onnxruntime"\n[bench]\nruns = 20\n'
        (project / "targets" / f"{name}.toml").write_text(text)
    return project


def cells(project: Path) -> Cells:
    """Every file of every cell."""
    base = project / "dist" / ".work" / "sweep" / "cells"
    return {str(file.relative_to(base)): file.read_bytes() for file in sorted(base.rglob("*")) if file.is_file()}


def counts(errors: str) -> tuple[int, int]:
    """Cells computed, and found."""
    (found,) = re.findall(r"(\d+) cells computed, (\d+) cached", errors)
    return int(found[0]), int(found[1])


def eventually(condition: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # what is looked at may end meanwhile
            if condition():
                return True
        time.sleep(0.05)
    return False


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        if words in line:
            return
        told.append(line)
    raise AssertionError(f"the sweep ended before it said {words!r}, but: {''.join(told)}")


def finished(process: subprocess.Popen[str]) -> Run:
    output, errors = process.communicate(timeout=200)
    return Run(process.returncode, output, errors)


def processes_of(project: Path) -> list[str]:
    """Command lines of running processes whose work folder is the project."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == project:
                found.append((entry / "cmdline").read_text())
    return found
