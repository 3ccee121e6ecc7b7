"""What `edgec backends` and `edgec explain` say where packages are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec.cli import backends, explain

HINT = "pip install 'edgec[tflite]'"


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.backends.registry.package_version", lambda name: None if name == "tensorflow" else "1.0")


def test_backends_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    lines = CliRunner().invoke(backends.command, []).output.splitlines()
    assert any(f"missing: tensorflow (for int8); {HINT}" in line for line in lines)


def test_explain_tells_which_artifact_cannot_be_made(tmp_path: Path) -> None:
    for name in ("e.npz", "c.npz", "model.py"):
        (tmp_path / name).touch()
    (tmp_path / "edgec.toml").write_text(
        '[model]\npath = "model.py:Net"\n[calibration]\ndata = "c.npz"\n[evaluation]\ndata = "e.npz"\n'
    )
    found = CliRunner().invoke(explain.command, ["--project", str(tmp_path), "-t", "rpi4-int8"], catch_exceptions=False)
    lines = found.output.splitlines()
    told = f"    cannot be made here: int8 needs packages that are not installed: tensorflow; {HINT}"
    assert lines.index(told) == lines.index("  model.tflite (tflite)") + 1
    assert found.output.count("cannot be made here") == 1
