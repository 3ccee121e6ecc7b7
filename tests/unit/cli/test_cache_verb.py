"""`edgec cache` on entries that were put there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec.cli.cache import command
from edgec.storage.cache import LIMIT_VARIABLE, user_cache


def test_what_is_kept_is_shown_and_removed(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    assert runner.invoke(command).output == f"{own_cache}: 0.0 MB in 0 entries, 10000 MB at most\n"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.onnx").write_bytes(bytes(3_000_000))
    user_cache().put("a" * 64, 1, tmp_path / "files", what="compile")
    user_cache().put("b" * 64, 1, what="score")
    monkeypatch.setenv(LIMIT_VARIABLE, "2")
    shown = runner.invoke(command).output
    assert [line.split()[:3] for line in shown.splitlines()[1:3]] == [["compile", "1", "3.0"], ["score", "1", "0.0"]]
    assert shown.endswith(f"{own_cache}: 3.0 MB in 2 entries, 2000 MB at most\n")
    assert runner.invoke(command, ["clean"]).output == f"{own_cache}: 3.0 MB in 2 entries removed\n"
    assert not list(own_cache.iterdir())
