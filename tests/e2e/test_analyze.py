"""`edgec analyze` of the digits: every layer, every figure once, whatever stops it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.analyze.records import Analysis
from edgec.errors import ModelError, TargetError

from .command import edgec, environment, start

TARGET = "host-int8"
ANALYZE = ("analyze", "--target", TARGET, "--samples", "48")
CELLS = 1 + 1 + 2 * 4 + 1
"""The list of layers, all in int8, each of four layers alone and left out, and the fidelity of layers."""

WATCHED = """
import sys

def forbid(event, arguments):
    assert event not in ("subprocess.Popen", "os.fork", "os.posix_spawn"), (event, arguments)

sys.addaudithook(forbid)
from edgec.cli.main import run
code = run(sys.argv[1:])
heavy = [name for name in ("onnxruntime", "tensorflow", "torch.ao.quantization.quantize_fx") if name in sys.modules]
print(heavy)
sys.exit(code)
"""


@pytest.fixture
def host_project(project: Path) -> Path:
    """The digits with a target of ONNX Runtime alone."""
    (project / "targets").mkdir()
    (project / "targets" / f"{TARGET}.toml").write_text(
        'extends = "x86-64-vnni-int8"\n[[emit]]\nbackend = "onnxruntime"\n'
    )
    return project


def counts(errors: str) -> tuple[int, int]:
    """Cells computed, and found in the cache."""
    (found,) = re.findall(r"(\d+) cells computed, (\d+) cached", errors)
    return int(found[0]), int(found[1])


@pytest.mark.slow
def test_killed_resumed_and_from_the_cache(host_project: Path) -> None:
    process = start(*ANALYZE, cwd=host_project)
    assert process.stderr is not None
    for line in process.stderr:
        if "model.onnx: 5 of 9" in line:
            break
    process.kill()
    process.communicate(timeout=60)
    table, page = (host_project / "dist" / f"{TARGET}.analysis.{end}" for end in ("json", "html"))
    assert not table.exists()

    resumed = edgec(*ANALYZE, cwd=host_project)
    assert resumed.code == 0, resumed.errors
    computed, cached = counts(resumed.errors)
    assert computed + cached == CELLS
    assert cached >= 5
    assert computed >= 1
    assert resumed.output.strip() == str(page)
    found = Analysis.model_validate_json(table.read_text())
    (one,) = found.artifacts
    assert {item.layer for item in one.layers} == {"features.0", "features.3", "classifier.0", "classifier.3"}
    order = [item.only.sqnr_db for item in one.layers]
    assert all(db is not None and db > 15 for db in order)
    assert order == sorted(order)
    assert one.quantized is not None
    assert one.quantized.sqnr_db is not None
    for item in one.layers:
        assert item.only.sqnr_db is not None
        assert item.only.sqnr_db > one.quantized.sqnr_db  # fewer quantized layers, less noise
        assert item.only.metric is not None
        assert item.only.metric.samples == 48
        assert item.layer in resumed.errors
        assert item.layer in page.read_text()
    assert len(one.fidelity) >= 4

    whole = table.read_bytes()
    entry = min((host_project / "dist" / ".work" / "cache").glob("[0-9a-f]*.json"))
    entry.write_bytes(entry.read_bytes()[:-7])  # as a disk would leave it
    mended = edgec(*ANALYZE, "--json", cwd=host_project)
    assert mended.code == 0, mended.errors
    assert counts(mended.errors) == (1, CELLS - 1)
    assert json.loads(mended.output)[TARGET] == json.loads(whole)

    again = subprocess.run(
        [sys.executable, "-c", WATCHED, *ANALYZE], cwd=host_project, env=environment(), capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert counts(again.stderr) == (0, CELLS)
    assert again.stdout.splitlines()[-1] == "[]"
    assert table.read_bytes() == whole


def test_other_targets_are_refused_early(host_project: Path) -> None:
    dynamic = edgec(*ANALYZE, "--target", "rpi4-int8-dynamic", cwd=host_project)
    assert dynamic.code == TargetError.exit_code
    assert "only static int8 has layers" in dynamic.errors
    assert "Traceback" not in dynamic.errors
    typo = edgec("analyze", "--target", "hots-int8", cwd=host_project)
    assert typo.code == TargetError.exit_code
    assert f'did you mean "{TARGET}"' in typo.errors
    assert not (host_project / "dist").exists()


def test_a_missing_model_is_told(host_project: Path) -> None:
    (host_project / "model.pt").unlink()
    run = edgec(*ANALYZE, cwd=host_project)
    assert run.code == ModelError.exit_code
    assert "model.pt" in run.errors
    assert "Traceback" not in run.errors
    assert not list((host_project / "dist").glob("*.analysis.*"))
