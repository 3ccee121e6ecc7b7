"""Two bundles on disk that differ in what a test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle.manifest import Manifest, Measurements, accuracy_of
from edgec.bundle.write import write_manifest, write_measurements
from edgec.compare.side import Side, read_side
from edgec.verify.records import Measurement

WriteBundle = Callable[..., Side]


@pytest.fixture
def write_side(
    tmp_path: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> WriteBundle:
    """Write the bundle `name` and read it back; `size` of its artifact, `measured` in place of one measurement."""

    def write(name: str, *, size: int = 2048, measured: tuple[Measurement, ...] = (), **manifest: Any) -> Side:
        folder = tmp_path / name
        folder.mkdir()
        measured = measured or (make_measurement(),)
        files = {item.artifact for item in measured} | {plain_artifact.file}
        artifacts = []
        for file in sorted(files):
            (folder / file).write_bytes(b"x" * size)
            artifacts.append(plain_artifact.model_copy(update={"file": file}))
        facts = {"accuracy": tuple(accuracy_of(item) for item in measured), **manifest}
        write_manifest(folder, make_manifest(folder, *artifacts, **facts))
        write_measurements(folder, Measurements(measurements=measured))
        return read_side(folder)

    return write
