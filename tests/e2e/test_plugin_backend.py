"""A copy of the example backend, installed as another package with a file format of its own, builds and publishes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgec.bundle.check import check_digests
from edgec.bundle.files import bundle_files
from edgec.bundle.formats import media_types
from edgec.publish.oci.records import artifact_of

from .command import edgec

EXAMPLE = Path(__file__).parents[2] / "backends" / "example"
OWN = {
    'NAME = "example"': 'NAME = "acme"',
    'name="npz"': 'name="acme_arrays"',
    'suffix=".npz"': 'suffix=".acme"',
    "application/vnd.edgec.arrays.npz": "application/vnd.acme.model",
}
"""What its author changes in ``emit.py`` of the copy."""
NET = """
from torch import nn

def chain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
"""
TOML = """
[model]
path = "net.py:chain"
[[model.inputs]]
name = "x"
shape = [1, 3, 8, 8]
[calibration]
data = "calibration.npz"
[evaluation]
data = "evaluation.npz"
metric = "sqnr"
[build]
effort = "fast"
"""
TARGET = 'device = "x86-64-vnni"\nprecision = "int8"\n[[emit]]\nbackend = "acme"\n'


def install(packages: Path) -> None:
    """A package ``acme_backend`` with its entry point, as pip leaves it."""
    copy = shutil.copytree(EXAMPLE, packages / "acme_backend", ignore=shutil.ignore_patterns("__pycache__"))
    for file in copy.glob("*.py"):
        text = file.read_text().replace("edgec.backends.example", "acme_backend")
        for old, new in OWN.items() if file.name == "emit.py" else ():
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)
    info = packages / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgec.backends]\nacme = acme_backend.backend:BACKEND\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net that the backend takes, and the backend installed."""
    install(tmp_path / "packages")
    paths = (str(tmp_path / "packages"), os.environ.get("PYTHONPATH"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "edgec.toml").write_text(TOML)
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "acme.toml").write_text(TARGET)
    rng = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=(16, 3, 8, 8)).astype(np.float32))
    return tmp_path


def test_a_backend_of_another_package_builds_benches_and_publishes(project: Path) -> None:
    listed = json.loads(edgec("backends", "--json", cwd=project).output)
    assert [item["format"] for item in listed if item["name"] == "acme"] == ["acme_arrays"]

    run = edgec("build", "--target", "acme", cwd=project)
    assert run.code == 0, run.errors
    bundle = project / "dist" / "acme"
    manifest = check_digests(bundle)
    (record,) = manifest.artifacts
    assert (record.artifact.file, record.artifact.format) == ("model.acme", "acme_arrays")
    assert {item.dtype for item in manifest.accuracy[0].ops} == {"int8"}
    assert "bench/run_acme_arrays.py" in manifest.files
    assert not [item for item in manifest.coverage if item.state == "not in bench/"]
    assert (bundle / "bench" / "requirements.txt").read_text() == "numpy\n"

    for verb in ("bench", "verify"):
        run = edgec(verb, "dist/acme", cwd=project)
        assert run.code == 0, run.errors
    (project / "device").mkdir()
    (project / "device" / "edgec.py").write_text("raise ImportError('edgec is not on the device')\n")
    done = subprocess.run(
        [sys.executable, str(bundle / "bench" / "bench.py"), "--runs", "3"],
        env={**os.environ, "PYTHONPATH": str(project / "device")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    run = edgec("publish", "dist", "place", cwd=project)
    assert run.code == 0, run.errors
    run = edgec("pull", "place", "--target", "acme", "--out", "pulled", cwd=project)
    assert run.code == 0, run.errors
    assert check_digests(project / "pulled" / "acme") == manifest

    layers = artifact_of("acme", bundle_files(bundle), media_types(manifest)).layers
    assert {item.annotation("org.opencontainers.image.title"): item.media_type for item in layers}["model.acme"] == (
        "application/vnd.acme.model"
    )
