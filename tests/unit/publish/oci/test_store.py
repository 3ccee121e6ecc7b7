"""Publishing to Debian's docker-registry and pulling from it: what is there, and what a no-change publish does."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers.registry import DebianRegistry
from servers.scripted import Asked, Reply, Scripted

from edgec.bundle.files import bundle_files
from edgec.bundle.manifest import ATTESTATIONS
from edgec.errors import PublishError, TargetError, UsageError
from edgec.publish.collect import collect_bundles
from edgec.publish.location import OciLocation, parse_location
from edgec.publish.oci.connection import Connection
from edgec.publish.oci.registry import Repository
from edgec.publish.oci.store import OciStore
from edgec.publish.pull import PulledBundle, pull
from edgec.publish.store import PublishResult
from edgec.publish.transfer import RetryPolicy

HASTY = RetryPolicy(timeout=5.0, retries=2, wait=0.01)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """A registry for everybody; each test has a repository of its own."""
    server = DebianRegistry(tmp_path_factory.mktemp("registry"))
    yield server
    server.stop()


@pytest.fixture
def repository(registry: DebianRegistry, request: pytest.FixtureRequest) -> str:
    """``oci://HOST/REPOSITORY`` of this test."""
    return f"oci://{registry.host}/" + re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


def oci(text: str) -> OciLocation:
    location = parse_location(text)
    assert isinstance(location, OciLocation)
    return location


def send(location: str, *folders: Path, add: bool = False, said: list[str] | None = None) -> PublishResult:
    steps = said if said is not None else []
    return OciStore(oci(location), HASTY).publish(
        collect_bundles(folders, steps.append), add=add, progress=steps.append
    )


def fetch(location: str, out: Path, *patterns: str) -> list[PulledBundle]:
    return list(pull(parse_location(location), patterns or ("*",), out, policy=HASTY))


def get(location: str, path: str, accept: str = "*/*") -> tuple[int, dict[str, str], bytes]:
    """What the registry itself answers, without edgec."""
    where = oci(location)
    connection = http.client.HTTPConnection(where.registry)
    connection.request("GET", f"/v2/{where.repository}/{path}", headers={"Accept": accept})
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()


def index_of(location: str) -> Any:
    return json.loads(get(location, f"manifests/{oci(location).tag}", "application/vnd.oci.image.index.v1+json")[2])


def manifest_of(location: str, digest: str) -> Any:
    return json.loads(get(location, f"manifests/{digest}", "application/vnd.oci.image.manifest.v1+json")[2])


def test_bundles_come_back_as_they_were(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / "dist", target) for target in ("rpi4-int8", "x86-64-int8", "android-arm64-int8")]
    published = send(f"{repository}:1.4", tmp_path / "dist")
    assert published.targets == ("android-arm64-int8", "rpi4-int8", "x86-64-int8")
    assert published.changed
    assert published.notes == ()
    pulled = fetch(f"{repository}:1.4", tmp_path / "out")
    assert [one.target for one in pulled] == list(published.targets)
    for bundle in bundles:
        assert bundle_files(tmp_path / "out" / bundle.name) == bundle_files(bundle)
    assert (tmp_path / "out" / "rpi4-int8" / "bench" / "run.sh").stat().st_mode & 0o111


def test_one_target_of_several(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    for target in ("rpi4-int8", "x86-64-int8"):
        make_bundle(tmp_path / "dist", target)
    send(repository, tmp_path / "dist")
    (one,) = fetch(repository, tmp_path / "out", "rpi4-*")
    assert one.path == tmp_path / "out" / "rpi4-int8"
    assert not (tmp_path / "out" / "x86-64-int8").exists()
    with pytest.raises(TargetError, match="x86-64-int8"):
        fetch(repository, tmp_path / "out", "x86-64-int9")


@pytest.mark.parametrize("add", [False, True])
def test_signed_entries_come_back(make_bundle: Callable[..., Path], repository: str, tmp_path: Path, add: bool) -> None:
    (bundle,) = collect_bundles([make_bundle(tmp_path / "dist")], lambda step: None)
    store, offer = OciStore(oci(f"{repository}:1"), HASTY), '{"payload":"x"}'
    store.publish([replace(bundle, offer=offer)], add=add, progress=lambda step: None)
    assert store.read(lambda step: None).bundle(bundle.target).offer == offer
    assert store.publish([replace(bundle, offer="")], add=add, progress=lambda step: None).changed
    assert store.read(lambda step: None).bundle(bundle.target).offer == ""


def test_what_is_in_the_registry(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("GITHUB_SHA", "c0ffee")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/model")
    bundle = make_bundle(tmp_path, "rpi4-int8")
    published = send(repository, bundle)
    status, headers, content = get(repository, "manifests/latest", "application/vnd.oci.image.index.v1+json")
    assert status == 200
    assert headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    assert published.reference == f"{repository}@{digest}"
    index = json.loads(content)
    assert content == json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    assert index["artifactType"] == "application/vnd.edgec.build.v1"
    (entry,) = index["manifests"]
    assert entry["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert entry["artifactType"] == "application/vnd.edgec.bundle.v1"
    assert entry["annotations"] == {
        "dev.edgec.target": "rpi4-int8",
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        "org.opencontainers.image.revision": "c0ffee",
        "org.opencontainers.image.source": "https://github.com/me/model",
    }
    manifest = manifest_of(repository, entry["digest"])
    assert manifest["artifactType"] == "application/vnd.edgec.bundle.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert manifest["annotations"] == {"dev.edgec.target": "rpi4-int8"}
    layers = {layer["annotations"]["org.opencontainers.image.title"]: layer for layer in manifest["layers"]}
    files = {file.name: file for file in bundle_files(bundle)}
    assert layers.keys() == files.keys()
    for name, layer in layers.items():
        assert (layer["digest"], layer["size"]) == (f"sha256:{files[name].sha256}", files[name].size)
        assert layer["annotations"] == {"org.opencontainers.image.title": name}
    assert layers["model.onnx"]["mediaType"] == "application/vnd.edgec.model.onnx"


@pytest.mark.parametrize(
    ("target", "platform"),
    [
        ("x86-64-int8", {"architecture": "amd64", "os": "linux"}),
        ("rpi3-armv7-int8", {"architecture": "arm", "os": "linux", "variant": "v7"}),
        ("android-arm64-int8", {"architecture": "arm64", "os": "android", "variant": "v8"}),
    ],
)
def test_platforms_have_the_names_that_other_tools_know(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path, target: str, platform: dict[str, str]
) -> None:
    send(repository, make_bundle(tmp_path, target))
    assert index_of(repository)["manifests"][0]["platform"] == platform


def test_another_client_reads_it(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    """oras pulls an artifact whole: what edgec writes is not for edgec alone."""
    import oras.provider

    bundle = make_bundle(tmp_path, "rpi4-int8")
    send(repository, bundle)
    digest = index_of(repository)["manifests"][0]["digest"]
    client = oras.provider.Registry(hostname=oci(repository).registry, insecure=True)
    out = tmp_path / "oras"
    client.pull(f"{repository.removeprefix('oci://')}@{digest}", outdir=str(out))
    for file in bundle_files(bundle):
        assert hashlib.sha256((out / file.name).read_bytes()).hexdigest() == file.sha256


def test_publishing_again_sends_nothing(
    make_bundle: Callable[..., Path], registry: DebianRegistry, repository: str, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path)
    first = send(repository, bundle)
    assert first.sent == len(bundle_files(bundle)) + 1  # and the empty configuration
    stored = registry.blobs()
    said: list[str] = []
    again = send(repository, bundle, said=said)
    assert (again.sent, again.sent_bytes, again.changed) == (0, 0, False)
    assert again.kept == first.sent + first.kept
    assert again.reference == first.reference
    assert registry.blobs() == stored
    assert said == ["x86-64-int8: check digests"]


def test_only_what_changed_is_sent(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    send(repository, make_bundle(tmp_path / "a", model=b"a" * 1000))
    changed = make_bundle(tmp_path / "b", model=b"b" * 1000)
    published = send(repository, changed)
    assert published.sent == 3  # the model, SHA256SUMS and manifest.json
    assert published.sent_bytes == sum(
        (changed / name).stat().st_size for name in ("model.onnx", "SHA256SUMS", "manifest.json")
    )


def test_publishing_replaces_the_build(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    one, other = make_bundle(tmp_path, "rpi4-int8"), make_bundle(tmp_path, "x86-64-int8")
    first = send(repository, one)
    assert send(repository, other).targets == ("x86-64-int8",)
    assert [pulled.target for pulled in fetch(repository, tmp_path / "out")] == ["x86-64-int8"]
    fetch(first.reference, tmp_path / "old")  # what a digest names stays
    assert (tmp_path / "old" / "rpi4-int8" / "model.onnx").read_bytes() == (one / "model.onnx").read_bytes()


def test_adding_keeps_other_targets(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    one, other = make_bundle(tmp_path, "rpi4-int8"), make_bundle(tmp_path, "x86-64-int8")
    tag = f"{repository}:1.4"
    first = send(tag, one, add=True)
    assert first.targets == ("rpi4-int8",)
    assert send(tag, other, add=True).targets == ("rpi4-int8", "x86-64-int8")
    newer = make_bundle(tmp_path / "newer", "rpi4-int8", model=b"newer")
    assert send(tag, newer, add=True).targets == ("rpi4-int8", "x86-64-int8")
    fetch(tag, tmp_path / "out")
    assert (tmp_path / "out" / "rpi4-int8" / "model.onnx").read_bytes() == b"newer"
    assert (tmp_path / "out" / "x86-64-int8" / "model.onnx").is_file()
    unchanged = send(tag, newer, other, add=True)
    assert (unchanged.changed, unchanged.sent, unchanged.reference) == (False, 0, tag)
    fetch(first.reference, tmp_path / "old")
    assert (tmp_path / "old" / "rpi4-int8" / "model.onnx").read_bytes() == (one / "model.onnx").read_bytes()
    (alone,) = fetch(f"{tag}-rpi4-int8", tmp_path / "alone")
    assert alone.target == "rpi4-int8"


def test_a_build_of_one_command_replaces_added_targets_and_is_not_added_to(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path
) -> None:
    one, other = make_bundle(tmp_path, "rpi4-int8"), make_bundle(tmp_path, "x86-64-int8")
    send(repository, one, add=True)
    send(repository, other)
    assert [pulled.target for pulled in fetch(repository, tmp_path / "out")] == ["x86-64-int8"]
    with pytest.raises(PublishError, match="names a build that was published by one command"):
        send(repository, one, add=True)


def test_tags_of_other_builds_are_not_added_targets(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path
) -> None:
    one, other = make_bundle(tmp_path, "rpi4-int8"), make_bundle(tmp_path, "x86-64-int8")
    send(f"{repository}:1.4-rc1", one, other)
    send(f"{repository}:1.4-rc2", other, add=True)
    with pytest.raises(PublishError, match="nothing is published there"):
        fetch(f"{repository}:1.4", tmp_path / "out")
    assert send(f"{repository}:1.4", one, add=True).targets == ("rpi4-int8",)


def test_tag_of_a_target_that_is_too_long(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is too long"):
        send(f"{repository}:{'x' * 128}", make_bundle(tmp_path), add=True)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"tags":"x"}', b'{"tags":[1]}'])
def test_invalid_list_of_tags(content: bytes) -> None:
    with Scripted(lambda asked: Reply(content=content)) as server:
        repository = Repository(Connection(server.host, HASTY), "x")
        with pytest.raises(PublishError, match="invalid list of tags"):
            repository.tags()


def test_list_of_tags_in_pages() -> None:
    def script(asked: Asked) -> Reply:
        if "last=b" in asked.path:
            return Reply(content=b'{"name":"x","tags":["c"]}')
        link = '</v2/x/tags/list?last=b&n=2>; rel="next"'
        return Reply(headers={"Link": link}, content=b'{"name":"x","tags":["a","b"]}')

    with Scripted(script) as server:
        assert Repository(Connection(server.host, HASTY), "x").tags() == ("a", "b", "c")


def test_pull_by_digest_of_index_and_of_artifact(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path, "rpi4-int8")
    reference = send(repository, bundle).reference
    send(repository, make_bundle(tmp_path, "x86-64-int8"))
    artifact = manifest = manifest_digest(reference)
    for location in (reference, f"{repository}@{artifact}"):
        (one,) = fetch(location, tmp_path / manifest[7:15])
        assert one.target == "rpi4-int8"
        assert bundle_files(one.path) == bundle_files(bundle)


def manifest_digest(reference: str) -> str:
    content = get(reference, f"manifests/{oci(reference).digest}", "application/vnd.oci.image.index.v1+json")[2]
    digest: str = json.loads(content)["manifests"][0]["digest"]
    return digest


def test_a_digest_cannot_be_published_to(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a digest cannot be published to"):
        send(f"{repository}@sha256:{'0' * 64}", make_bundle(tmp_path))


@pytest.mark.parametrize("suffix", ["", ":other", f"@sha256:{'0' * 64}"])
def test_nothing_is_published_there(repository: str, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PublishError, match="nothing is published there"):
        fetch(repository + suffix, tmp_path / "out")


def test_attestations_are_found_from_the_artifact(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path
) -> None:
    """This registry has no referrers API: the list is under a tag of its own."""
    bundle = make_bundle(tmp_path, "rpi4-int8")
    (bundle / ATTESTATIONS).write_text('{"payloadType":"application/vnd.in-toto+json"}\n')
    send(repository, bundle)
    artifact = index_of(repository)["manifests"][0]
    tag = artifact["digest"].replace(":", "-")
    assert get(repository, f"referrers/{artifact['digest']}")[0] == 404
    referrers = index_of(f"{repository}:{tag}")
    (referrer,) = referrers["manifests"]
    assert referrer["artifactType"] == "application/vnd.in-toto.bundle"
    manifest = manifest_of(repository, referrer["digest"])
    assert manifest["subject"] == {key: artifact[key] for key in ("mediaType", "digest", "size")}
    (layer,) = manifest["layers"]
    assert get(repository, f"blobs/{layer['digest']}")[2] == (bundle / ATTESTATIONS).read_bytes()
    again = send(repository, bundle)
    assert not again.changed
    assert index_of(f"{repository}:{tag}") == referrers
    fetch(repository, tmp_path / "out")
    assert (tmp_path / "out" / "rpi4-int8" / ATTESTATIONS).read_bytes() == (bundle / ATTESTATIONS).read_bytes()


def test_a_file_without_bytes(make_bundle: Callable[..., Path], repository: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, model=b"")
    send(repository, bundle)
    (one,) = fetch(repository, tmp_path / "out")
    assert (one.path / "model.onnx").read_bytes() == b""


def test_the_same_bundle_gives_the_same_index_anywhere(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path
) -> None:
    one = send(f"{repository}-one", make_bundle(tmp_path / "a"))
    other = send(f"{repository}-other", make_bundle(tmp_path / "b"))
    assert one.reference.partition("@")[2] == other.reference.partition("@")[2]


def test_without_urllib3_the_extra_is_named(tmp_path: Path) -> None:
    import sys

    script = (
        "import sys; sys.modules['urllib3'] = None\n"
        "from edgec.publish.location import parse_location\nfrom edgec.publish.stores import open_store\n"
        "from edgec.publish.transfer import RetryPolicy\nfrom edgec.errors import BackendUnavailableError\n"
        "try:\n    open_store(parse_location('oci://localhost/x'), RetryPolicy())\n"
        "except BackendUnavailableError as exc:\n    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'edgec[oci]'" in done.stdout
