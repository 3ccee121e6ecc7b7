"""A small bundle, keys, and the bundle signed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle.bench.write import HARNESS
from edgec.bundle.manifest import REPORT, Manifest, Measurements
from edgec.bundle.provenance.keys import generate, private_keys
from edgec.bundle.provenance.sign import sign_bundle
from edgec.bundle.write import write_manifest, write_measurements
from edgec.verify.records import Measurement


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two pairs of keys, ``one`` and ``two``."""
    folder = tmp_path_factory.mktemp("keys")
    generate(folder / "one", {})
    generate(folder / "two", {})
    return folder


@pytest.fixture
def unsigned(
    tmp_path: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> Path:
    """A bundle in a folder whose name has a space."""
    folder = tmp_path / "a board"
    (folder / "bench").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)))
    (folder / "bench" / "bench.py").write_text("pass\n")
    shutil.copy(HARNESS / "run.sh", folder / "bench")
    manifest = write_manifest(folder, make_manifest(folder, plain_artifact))
    write_measurements(folder, Measurements(measurements=(make_measurement(),), gates=manifest.gates))
    (folder / REPORT).write_text("<p>")
    return folder


@pytest.fixture
def signed(unsigned: Path, keys: Path) -> Path:
    """The bundle, signed with key ``one``."""
    sign_bundle(unsigned, private_keys([keys / "one.key"], {}))
    return unsigned
