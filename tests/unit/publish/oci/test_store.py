"""Publishing to Debian's docker-registry and pulling from it: what is there, and what a no-change publish does."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.registry import DebianRegistry

from edgec.bundle.files import bundle_files
from edgec.bundle.manifest import ATTESTATIONS
from edgec.errors import PublishError, TargetError, UsageError
from edgec.publish.oci.store import OciStore
from edgec.publish.outgoing import outgoing
from edgec.publish.place import OciPlace, parse
from edgec.publish.pull import Pulled, pull
from edgec.publish.store import Published
from edgec.publish.transfer import Patience

HASTY = Patience(timeout=5.0, retries=2, wait=0.01)


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


def oci(text: str) -> OciPlace:
    place = parse(text)
    assert isinstance(place, OciPlace)
    return place


def send(place: str, *folders: Path, add: bool = False, said: list[str] | None = None) -> Published:
    steps = said if said is not None else []
    return OciStore(oci(place), HASTY).publish(outgoing(folders, steps.append), add=add, progress=steps.append)


def fetch(place: str, out: Path, *patterns: str) -> list[Pulled]:
    return list(pull(parse(place), patterns or ("*",), out, patience=HASTY))


def get(place: str, path: str, accept: str = "*/*") -> tuple[int, dict[str, str], bytes]:
    """What the registry itself answers, without edgec."""
    where = oci(place)
    connection = http.client.HTTPConnection(where.registry)
    connection.request("GET", f"/v2/{where.repository}/{path}", headers={"Accept": accept})
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()


def index_of(place: str) -> Any:
    return json.loads(get(place, f"manifests/{oci(place).tag}", "application/vnd.oci.image.index.v1+json")[2])


def manifest_of(place: str, digest: str) -> Any:
    return json.loads(get(place, f"manifests/{digest}", "application/vnd.oci.image.manifest.v1+json")[2])


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


def test_publishing_replaces_and_adding_keeps(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.publish.oci.tags.SETTLE", 0.01)
    one, other = make_bundle(tmp_path, "rpi4-int8"), make_bundle(tmp_path, "x86-64-int8")
    first = send(repository, one)
    assert send(repository, other, add=True).targets == ("rpi4-int8", "x86-64-int8")
    newer = make_bundle(tmp_path / "newer", "rpi4-int8", model=b"newer")
    assert send(repository, newer, add=True).targets == ("rpi4-int8", "x86-64-int8")
    fetch(repository, tmp_path / "out")
    assert (tmp_path / "out" / "rpi4-int8" / "model.onnx").read_bytes() == b"newer"
    unchanged = send(repository, newer, add=True)
    assert (unchanged.changed, unchanged.sent) == (False, 0)
    assert send(repository, other).targets == ("x86-64-int8",)
    fetch(first.reference, tmp_path / "old")  # what a digest names stays
    assert (tmp_path / "old" / "rpi4-int8" / "model.onnx").read_bytes() == (one / "model.onnx").read_bytes()


def test_adding_to_a_tag_that_is_not_there(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.publish.oci.tags.SETTLE", 0.01)
    assert send(repository, make_bundle(tmp_path, "rpi4-int8"), add=True).targets == ("rpi4-int8",)


def test_pull_by_digest_of_index_and_of_artifact(
    make_bundle: Callable[..., Path], repository: str, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path, "rpi4-int8")
    reference = send(repository, bundle).reference
    send(repository, make_bundle(tmp_path, "x86-64-int8"))
    artifact = manifest = manifest_digest(reference)
    for place in (reference, f"{repository}@{artifact}"):
        (one,) = fetch(place, tmp_path / manifest[7:15])
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
        "from edgec.publish.place import parse\nfrom edgec.publish.stores import open_store\n"
        "from edgec.publish.transfer import Patience\nfrom edgec.errors import BackendUnavailableError\n"
        "try:\n    open_store(parse('oci://localhost/x'), Patience())\n"
        "except BackendUnavailableError as exc:\n    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'edgec[oci]'" in done.stdout
