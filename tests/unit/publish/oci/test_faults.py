"""What breaks while bundles travel to and from docker-registry: nothing is lost, nothing is wrongly accepted."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oci_trips import HASTY, HURRIED, MODEL, at, digest_of_model, fetch, in_place, send
from servers.registry import DebianRegistry
from servers.wire import Wire

from edgec.bundle.files import bundle_files
from edgec.errors import BundleError, PublishError
from edgec.publish.collect import collect_bundles
from edgec.publish.oci.store import OciStore
from edgec.publish.store import PublishResult
from edgec.publish.transfer import RetryPolicy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """A registry that nothing is done to."""
    server = DebianRegistry(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    """A registry to maltreat."""
    server = DebianRegistry(tmp_path / "registry")
    yield server
    server.stop()


@pytest.fixture
def bundle(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """With a model of 1 MB."""
    return make_bundle(tmp_path / "bundles", "rpi4-int8", model=MODEL)


def artifact_digest(registry: DebianRegistry, published: PublishResult) -> str:
    index = json.loads(registry.blob(published.reference.rpartition("@")[2]).read_text())
    digest: str = index["manifests"][0]["digest"]
    return digest


def test_tampered_blob_on_its_disk(registry: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    send(at(registry.host), bundle)
    blob = registry.blob(digest_of_model(bundle))
    blob.write_bytes(b"X" + MODEL[1:])
    with pytest.raises(PublishError, match=r"model.onnx.*digest") as caught:
        fetch(at(registry.host), tmp_path / "out")
    assert "delete it there, then publish again" in caught.value.hint
    assert in_place(tmp_path / "out") == []
    assert send(at(registry.host), bundle).sent == 0  # it has the size that it should have
    blob.unlink()
    assert send(at(registry.host), bundle).sent == 1
    assert bundle_files(fetch(at(registry.host), tmp_path / "out")[0].path) == bundle_files(bundle)


@pytest.mark.parametrize("content", [MODEL[:-7], MODEL + b"more"])
def test_blob_of_another_size_on_its_disk(
    registry: DebianRegistry, bundle: Path, tmp_path: Path, content: bytes
) -> None:
    send(at(registry.host), bundle)
    registry.blob(digest_of_model(bundle)).write_bytes(content)
    with pytest.raises(PublishError, match=r"model\.onnx"):
        fetch(at(registry.host), tmp_path / "out")
    assert in_place(tmp_path / "out") == []
    with pytest.raises(PublishError, match=f"damaged: {len(content)} bytes, not {len(MODEL)}") as caught:
        send(at(registry.host), bundle)
    assert "delete it there, then publish again" in caught.value.hint


@pytest.mark.parametrize("which", ["index", "artifact"])
def test_tampered_manifest_on_its_disk(registry: DebianRegistry, bundle: Path, tmp_path: Path, which: str) -> None:
    published = send(at(registry.host), bundle)
    digest = artifact_digest(registry, published) if which == "artifact" else published.reference.rpartition("@")[2]
    file = registry.blob(digest)
    file.write_text(file.read_text().replace("rpi4-int8", "rpi5-int8"))
    with pytest.raises(PublishError, match="has the digest") as caught:
        fetch(at(registry.host), tmp_path / "out")
    assert "delete it there, then publish again" in caught.value.hint
    assert in_place(tmp_path / "out") == []


def test_lost_blob_is_sent_again(registry: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    send(at(registry.host), bundle)
    registry.blob(digest_of_model(bundle)).unlink()
    with pytest.raises(PublishError):
        fetch(at(registry.host), tmp_path / "out")
    assert in_place(tmp_path / "out") == []
    mended = send(at(registry.host), bundle)
    assert (mended.sent, mended.changed) == (1, True)
    assert bundle_files(fetch(at(registry.host), tmp_path / "out")[0].path) == bundle_files(bundle)


def test_connection_cut_once_in_mid_upload(shared: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with Wire(shared.port, cut_up=500_000, cuts=1) as wire:
        send(at(wire.host, "cut-up-once"), bundle, said=said)
        assert wire.was_cut == 1
        assert wire.passed_up > len(MODEL)
    assert any("again in" in step for step in said)
    assert bundle_files(fetch(at(shared.host, "cut-up-once"), tmp_path / "out")[0].path) == bundle_files(bundle)


def test_connection_cut_always_in_mid_upload(shared: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    with Wire(shared.port, cut_up=500_000) as wire:
        with pytest.raises(PublishError, match=r"connection broke \(4 tries\)"):
            send(at(wire.host, "cut-up"), bundle)
        assert wire.was_cut == 4
    with pytest.raises(PublishError, match="nothing is published there"):
        fetch(at(shared.host, "cut-up"), tmp_path / "out")


def test_connection_cut_once_in_mid_download(shared: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    """The second try goes on where the first was cut."""
    send(at(shared.host, "cut-down-once"), bundle)
    with Wire(shared.port, cut_down=600_000, cuts=1, orderly=True) as wire:
        (one,) = fetch(at(wire.host, "cut-down-once"), tmp_path / "out")
        assert wire.was_cut == 1
        assert wire.passed_down < len(MODEL) + 300_000
    assert bundle_files(one.path) == bundle_files(bundle)


def test_connection_cut_always_in_mid_download(shared: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    location = at(shared.host, "cut-down")
    send(location, bundle)
    impatient = RetryPolicy(timeout=5.0, retries=1, wait=0.01)
    with Wire(shared.port, cut_down=100_000) as wire:
        with pytest.raises(PublishError, match=r"connection (broke|ended).*\(2 tries\)"):
            fetch(at(wire.host, "cut-down"), tmp_path / "out", policy=impatient)
        assert wire.was_cut == 2
    assert in_place(tmp_path / "out") == []
    (one,) = fetch(location, tmp_path / "out")
    assert bundle_files(one.path) == bundle_files(bundle)


def test_server_that_never_answers(bundle: Path, tmp_path: Path) -> None:
    with Wire(1, hang=True) as wire:
        for action in (
            lambda: send(at(wire.host), bundle, policy=HURRIED),
            lambda: fetch(at(wire.host), tmp_path / "out", HURRIED),
        ):
            began = time.monotonic()
            with pytest.raises(PublishError, match=r"the connection timed out \(2 tries\)"):
                action()
            assert time.monotonic() - began < 3


def test_server_that_hangs_in_mid_transfer(registry: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    send(at(registry.host), bundle)
    with Wire(registry.port) as wire:
        wire.hold = lambda piece: registry.pause() or 0.0 if b"/blobs/" in piece else 0.0
        began = time.monotonic()
        with pytest.raises(PublishError, match="the connection timed out"):
            fetch(at(wire.host), tmp_path / "out", HURRIED)
        assert time.monotonic() - began < 5
    registry.resume()
    assert in_place(tmp_path / "out") == []


def test_connection_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"refused \(2 tries\)"):
        send(at("127.0.0.1:9"), bundle, policy=HURRIED)


def test_host_name_that_cannot_be_resolved(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"surely-not-there.invalid.*host name cannot be resolved"):
        fetch(at("surely-not-there.invalid"), tmp_path / "out", HURRIED)


def test_registry_that_is_killed_and_comes_back(tmp_path: Path, bundle: Path) -> None:
    server = DebianRegistry(tmp_path / "registry")
    with Wire(server.port) as wire:
        killed = threading.Event()

        def kill(piece: bytes) -> float:
            if len(piece) > 30_000 and not killed.is_set():
                killed.set()
                server.process.kill()
            return 0.0

        wire.hold = kill
        with ThreadPoolExecutor(1) as pool:
            publishing = pool.submit(send, at(wire.host), bundle, policy=RetryPolicy(timeout=5, retries=5, wait=0.2))
            assert killed.wait(10)
            server.process.wait(10)
            again = DebianRegistry(tmp_path / "registry", port=server.port)
            assert publishing.result(30).changed
    (one,) = fetch(at(again.host), tmp_path / "out")
    again.stop()
    assert bundle_files(one.path) == bundle_files(bundle)


def test_full_disk_of_the_registry(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    """A small file system of its own where mounting is permitted; else a limit on the size of its files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode == 0
    )
    server = DebianRegistry(tmp_path / "registry", storage=disk, largest_file=None if mounted else 2 << 20)
    try:
        small = make_bundle(tmp_path / "small", "rpi4-int8", model=MODEL[:100_000])
        first = send(at(server.host), small)
        big = make_bundle(tmp_path / "big", "rpi4-int8", model=MODEL * 4)
        with pytest.raises(PublishError, match=r"registry answers 5..|connection broke"):
            send(at(server.host), big, policy=HURRIED)
        (one,) = fetch(at(server.host), tmp_path / "out")  # what was published is there as before
        assert bundle_files(one.path) == bundle_files(small)
        assert send(at(server.host), small).reference == first.reference
    finally:
        server.stop()
        if mounted:
            subprocess.run(["umount", disk], check=True)


def test_file_that_changes_while_it_is_sent(registry: DebianRegistry, bundle: Path, tmp_path: Path) -> None:
    sent = digest_of_model(bundle)
    bundles = collect_bundles([bundle], lambda step: None)
    (bundle / "model.onnx").write_bytes(b"X" + MODEL[1:])
    with pytest.raises(BundleError, match="changed while it was sent"):
        OciStore(at(registry.host, "changed"), HASTY).publish(bundles, add=False, progress=lambda step: None)
    (bundle / "model.onnx").write_bytes(MODEL[:-1])
    with pytest.raises(BundleError, match="changed while it was sent"):
        OciStore(at(registry.host, "changed"), HASTY).publish(bundles, add=False, progress=lambda step: None)
    assert sent not in registry.blobs()
    with pytest.raises(PublishError, match="nothing is published there"):
        fetch(at(registry.host, "changed"), tmp_path / "out")
