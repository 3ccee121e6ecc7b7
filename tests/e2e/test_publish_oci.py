"""`edgec publish` and `edgec pull` with a real registry that wants a password and has a certificate of its own."""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from servers.registry import PASSWORD, USER, DebianRegistry
from servers.wire import Wire

from edgec.bundle.files import bundle_files

from .command import edgec, start


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Nobody's but ours."""
    return trustme.CA()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[DebianRegistry]:
    """TLS and basic authentication."""
    server = DebianRegistry(tmp_path_factory.mktemp("registry"), htpasswd=True, authority=authority)
    yield server
    server.stop()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: DebianRegistry, authority: trustme.CA) -> Path:
    """Docker's configuration: after ``docker login``, and with the registry's authority."""
    folder = tmp_path / "docker"
    certificates = folder / "certs.d" / registry.host
    certificates.mkdir(parents=True)
    authority.cert_pem.write_to_path(str(certificates / "ca.crt"))
    packed = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": packed}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def test_signed_bundle_there_and_back(
    registry: DebianRegistry, docker: Path, rpi4_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(rpi4_bundle, tmp_path / "dist" / "rpi4-int8")
    for line in (["keygen", "--out", "ci"], ["sign", str(bundle), "--key", "ci.key"]):
        run = edgec(*line, cwd=tmp_path)
        assert run.code == 0, run.errors
    location = f"oci://{registry.host}/models/digits:1.4"
    published = edgec("publish", "dist", location, cwd=tmp_path)
    assert published.code == 0, published.errors
    reference = published.output.strip()
    assert re.fullmatch(rf"oci://{registry.host}/models/digits@sha256:[0-9a-f]{{64}}", reference)
    again = edgec("publish", "dist", location, cwd=tmp_path)
    assert "nothing sent" in again.errors
    assert again.output == published.output
    for out, source in (("by-tag", location), ("by-digest", reference)):
        pulled = edgec("pull", source, "--target", "rpi4-*", "--out", out, "--key", "ci.pub", cwd=tmp_path)
        assert pulled.code == 0, pulled.errors
        assert bundle_files(tmp_path / out / "rpi4-int8") == bundle_files(bundle)
    other = edgec("keygen", "--out", "other", cwd=tmp_path)
    assert other.code == 0
    refused = edgec("pull", location, "--out", "refused", "--key", "other.pub", cwd=tmp_path)
    assert refused.code == 34
    assert not (tmp_path / "refused" / "rpi4-int8").exists()
    for said in (published, again, pulled, refused):
        assert PASSWORD not in said.output + said.errors


def test_refusals_have_exit_codes_of_their_own(
    registry: DebianRegistry, docker: Path, rpi4_bundle: Path, tmp_path: Path
) -> None:
    location = f"oci://{registry.host}/models/refused"
    absent = edgec("pull", location, cwd=tmp_path)
    assert (absent.code, "nothing is published there" in absent.errors) == (36, True)
    (docker / "config.json").write_text("{}")
    nobody = edgec("publish", str(rpi4_bundle), location, cwd=tmp_path)
    assert (nobody.code, "docker login" in nobody.errors) == (37, True)
    shutil.rmtree(docker / "certs.d")
    unknown = edgec("publish", str(rpi4_bundle), location, cwd=tmp_path)
    assert (unknown.code, "certs.d" in unknown.errors) == (36, True)
    password = edgec("publish", str(rpi4_bundle), f"oci://me:{PASSWORD.split()[0]}@{registry.host}/x", cwd=tmp_path)
    assert password.code == 2
    for run in (absent, nobody, unknown, password):
        assert "Traceback" not in run.errors
        assert PASSWORD.split()[0] not in run.errors


def test_server_that_hangs(rpi4_bundle: Path, tmp_path: Path) -> None:
    with Wire(1, hang=True) as wire:
        began = time.monotonic()
        run = edgec(
            "publish", str(rpi4_bundle), f"oci://{wire.host}/x", "--timeout", "0.5", "--retries", "1", cwd=tmp_path
        )
        assert time.monotonic() - began < 20
    assert run.code == 36
    assert "the connection timed out (2 tries)" in run.errors
    assert "again in 0.5 s" in run.errors


@pytest.mark.slow
def test_killed_pull_leaves_nothing_that_looks_like_a_bundle(rpi4_bundle: Path, tmp_path: Path) -> None:
    registry = DebianRegistry(tmp_path / "registry")
    location = f"oci://{registry.host}/killed"
    assert edgec("publish", str(rpi4_bundle), location, cwd=tmp_path).code == 0
    asked: list[bytes] = []
    third = threading.Event()

    def hold(piece: bytes) -> float:
        asked.extend(piece for _ in [0] if b"/blobs/" in piece)
        if len(asked) < 3:
            return 0.0
        third.set()
        return 60.0

    with Wire(registry.port, hold=hold) as wire:
        pulling = start("pull", f"oci://{wire.host}/killed", "--out", "out", cwd=tmp_path)
        assert third.wait(60)
        pulling.kill()
        pulling.communicate(timeout=10)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".work"]
    again = edgec("pull", location, "--out", "out", cwd=tmp_path)
    assert again.code == 0, again.errors
    assert "here already" in again.errors
    assert bundle_files(tmp_path / "out" / "rpi4-int8") == bundle_files(rpi4_bundle)
    registry.stop()
