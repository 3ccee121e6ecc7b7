"""Small bundles to publish, made as builds make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.s3 import environment, new_bucket, s3_server

from edgec.backends.interface import Artifact
from edgec.bundle.manifest import REPORT, Manifest, Measurements
from edgec.bundle.write import write_manifest, write_measurements
from edgec.publish.location import S3Location

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
        for name in ("bench.py", "run.sh"):
            (folder / "bench" / name).chmod(0o755)
        write_manifest(folder, make_manifest(folder, plain_artifact, target=target, **fields))
        write_measurements(folder, Measurements(measurements=()))
        (folder / REPORT).write_text("<p>")
        return folder

    return make


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of a running S3 server."""
    with s3_server() as port:
        yield port


@pytest.fixture
def client(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3's own client; edgec finds the same server."""
    import boto3.session

    for name, value in environment(f"127.0.0.1:{s3_port}").items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("s3")


@pytest.fixture
def bucket(client: Any) -> S3Location:
    """A prefix of a bucket of the test's own."""
    return new_bucket(client)
