"""Small bundles to publish, made as builds make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.backend.protocol import Artifact
from edgec.bundle.manifest import REPORT, Manifest, Measurements
from edgec.bundle.write import write_manifest, write_measurements

MODEL = bytes(range(256)) * 16


@pytest.fixture(scope="session")
def make_bundle(make_manifest: Callable[..., Manifest], plain_artifact: Artifact) -> Callable[..., Path]:
    """A whole bundle in ``<parent>/<target>``; keywords replace fields of its manifest."""

    def make(parent: Path, target: str = "x86-64-int8", model: bytes = MODEL, **fields: Any) -> Path:
        folder = parent / target
        (folder / "bench").mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model)
        (folder / "bench" / "bench.py").write_text("pass\n")
        (folder / "bench" / "run.sh").write_text("#!/bin/sh\nexit 0\n")
        (folder / "bench" / "run.sh").chmod(0o755)
        write_manifest(folder, make_manifest(folder, plain_artifact, target=target, **fields))
        write_measurements(folder, Measurements(measurements=()))
        (folder / REPORT).write_text("<p>")
        return folder

    return make
