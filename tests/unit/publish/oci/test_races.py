"""Several publishers at once, and tags that move: what registries leave to their clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oci_trips import HASTY, at, fetch, send
from servers.registry import DebianRegistry
from servers.wire import Wire

from edgec.bundle.files import bundle_files
from edgec.publish.place import OciPlace
from edgec.publish.pull import pull
from edgec.publish.transfer import Patience

TARGETS = ("rpi4-int8", "rpi5-int8", "x86-64-int8", "x86-64-fp32", "android-arm64-int8")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """A registry that nothing is done to."""
    server = DebianRegistry(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


def test_five_publishers_add_at_once(shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / "bundles", target, model=target.encode()) for target in TARGETS]
    place, patient = at(shared.host, "crowd"), Patience(timeout=5.0, retries=6, wait=0.05)
    with ThreadPoolExecutor(len(bundles)) as pool:
        done = list(pool.map(lambda bundle: send(place, bundle, add=True, patience=patient), bundles))
    assert {one.target for one in fetch(place, tmp_path / "out")} == set(TARGETS)
    for bundle in bundles:
        assert bundle_files(tmp_path / "out" / bundle.name) == bundle_files(bundle)
    assert all(bundle.name in one.targets for bundle, one in zip(bundles, done, strict=True))


def test_what_another_publisher_overwrote_is_added_again(
    shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """One publisher's index is held back until the other's is written: exactly the loss that registries allow."""
    one, other = (make_bundle(tmp_path / "bundles", target) for target in ("rpi4-int8", "x86-64-int8"))
    place = at(shared.host, "overtaken")
    said: list[str] = []
    held = threading.Event()

    def hold(piece: bytes) -> float:
        if b"PUT /v2/overtaken/manifests/latest" in piece and not held.is_set():
            held.set()
            return 0.5
        return 0.0

    with Wire(shared.port, hold=hold) as wire, ThreadPoolExecutor(1) as pool:
        late = pool.submit(send, at(wire.host, "overtaken"), other, add=True)
        assert held.wait(10)
        send(place, one, add=True, said=said)
        late.result(20)
    assert any("another publisher overwrote rpi4-int8" in step for step in said)
    assert [found.target for found in fetch(place, tmp_path / "out")] == ["rpi4-int8", "x86-64-int8"]


def test_of_two_publishers_that_replace_one_is_told(
    shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """The tag names one of both builds whole, and the other is still there by its digest."""
    one, other = (make_bundle(tmp_path / "bundles", target) for target in ("rpi4-int8", "x86-64-int8"))
    place = at(shared.host, "moved")

    def hold(piece: bytes) -> float:
        if b"GET /v2/moved/manifests/latest" in piece and wire.passed_up > 3000:  # as it looks what the tag names now
            send(place, other)
        return 0.0

    with Wire(shared.port, hold=hold) as wire:
        published = send(at(wire.host, "moved"), one)
    (note,) = published.notes
    assert "another publisher moved" in note
    assert [found.target for found in fetch(place, tmp_path / "tag")] == ["x86-64-int8"]
    mine = OciPlace(place.registry, place.repository, digest=published.reference.rpartition("@")[2])
    assert [found.target for found in fetch(mine, tmp_path / "digest")] == ["rpi4-int8"]


def test_tag_that_moves_between_index_and_manifest(
    shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """A pull is of one build, whatever happens to the tag after its first request."""
    old = [make_bundle(tmp_path / "old", target, model=b"old " + target.encode()) for target in TARGETS[:2]]
    new = [make_bundle(tmp_path / "new", target, model=b"new " + target.encode()) for target in TARGETS[:2]]
    place = at(shared.host, "moving")
    send(place, *old)
    pulling = pull(place, ["*"], tmp_path / "out", patience=HASTY)
    first = next(pulling)
    send(place, *new)
    (second,) = pulling
    for one, bundle in ((first, old[0]), (second, old[1])):
        assert bundle_files(one.path) == bundle_files(bundle)
    fetch(place, tmp_path / "out")
    assert bundle_files(second.path) == bundle_files(new[1])
