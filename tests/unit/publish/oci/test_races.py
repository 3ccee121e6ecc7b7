"""Several publishers at once, and tags that move: what registries leave to their clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oci_trips import HASTY, at, fetch, send
from servers.registry import DebianRegistry
from servers.wire import Wire

from edgec.bundle.files import bundle_files
from edgec.publish.location import OciLocation
from edgec.publish.pull import pull
from edgec.publish.transfer import RetryPolicy

TARGETS = ("rpi4-int8", "rpi5-int8", "x86-64-int8", "x86-64-fp32", "android-arm64-int8")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """A registry that nothing is done to."""
    server = DebianRegistry(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


def test_five_publishers_add_at_once(shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / "bundles", target, model=target.encode()) for target in TARGETS]
    location, patient = at(shared.host, "crowd"), RetryPolicy(timeout=5.0, retries=6, wait=0.05)
    with ThreadPoolExecutor(len(bundles)) as pool:
        done = list(pool.map(lambda bundle: send(location, bundle, add=True, policy=patient), bundles))
    assert {one.target for one in fetch(location, tmp_path / "out")} == set(TARGETS)
    for bundle in bundles:
        assert bundle_files(tmp_path / "out" / bundle.name) == bundle_files(bundle)
    assert all(bundle.name in one.targets for bundle, one in zip(bundles, done, strict=True))


def test_of_two_publishers_that_replace_one_gets_a_note(
    shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """The tag names one of both builds whole, and the other is still there by its digest."""
    one, other = (make_bundle(tmp_path / "bundles", target) for target in ("rpi4-int8", "x86-64-int8"))
    location = at(shared.host, "moved")

    def hold(piece: bytes) -> float:
        if b"GET /v2/moved/manifests/latest" in piece and wire.passed_up > 3000:  # as it looks what the tag names now
            send(location, other)
        return 0.0

    with Wire(shared.port, hold=hold) as wire:
        published = send(at(wire.host, "moved"), one)
    (note,) = published.notes
    assert "another publisher moved" in note
    assert [found.target for found in fetch(location, tmp_path / "tag")] == ["x86-64-int8"]
    mine = OciLocation(location.registry, location.repository, digest=published.reference.rpartition("@")[2])
    assert [found.target for found in fetch(mine, tmp_path / "digest")] == ["rpi4-int8"]


def test_tag_that_moves_between_index_and_manifest(
    shared: DebianRegistry, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """A pull is of one build, whatever happens to the tag after its first request."""
    old = [make_bundle(tmp_path / "old", target, model=b"old " + target.encode()) for target in TARGETS[:2]]
    new = [make_bundle(tmp_path / "new", target, model=b"new " + target.encode()) for target in TARGETS[:2]]
    location = at(shared.host, "moving")
    send(location, *old)
    pulling = pull(location, ["*"], tmp_path / "out", policy=HASTY)
    first = next(pulling)
    send(location, *new)
    (second,) = pulling
    for one, bundle in ((first, old[0]), (second, old[1])):
        assert bundle_files(one.path) == bundle_files(bundle)
    fetch(location, tmp_path / "out")
    assert bundle_files(second.path) == bundle_files(new[1])
