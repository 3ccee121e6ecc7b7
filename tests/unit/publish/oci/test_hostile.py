"""Indexes and manifests that edgec did not write, as an attacker or another tool may put them into a registry."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers.registry import DebianRegistry
from servers.scripted import Asked, Reply, Scripted

from edgec.errors import EdgecError, PublishError
from edgec.publish.collect import collect_bundles
from edgec.publish.location import OciLocation
from edgec.publish.oci.records import BUILD, BUNDLE, EMPTY, INDEX_TYPE, MANIFEST_TYPE, TARGET, TITLE, Descriptor
from edgec.publish.oci.store import OciStore
from edgec.publish.pull import pull
from edgec.publish.transfer import RetryPolicy

HASTY = RetryPolicy(timeout=2.0, retries=1, wait=0.01)
CONTENT = b"something"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """A registry that takes what it is given."""
    server = DebianRegistry(tmp_path_factory.mktemp("registry"))
    yield server
    server.stop()


class Attacker:
    """Puts any documents into a repository."""

    def __init__(self, registry: DebianRegistry, repository: str) -> None:
        self.location = OciLocation(registry.host, repository)
        self._connection = http.client.HTTPConnection(registry.host)

    def blob(self, content: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        _, headers = self._ask("POST", f"/v2/{self.location.repository}/blobs/uploads/")
        status, _ = self._ask("PUT", f"{headers['Location']}&digest={digest}", content)
        assert status == 201
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}

    def document(self, document: Any, media_type: str, tag: str = "") -> dict[str, Any]:
        content = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        path = f"/v2/{self.location.repository}/manifests/{tag or digest}"
        status, _ = self._ask("PUT", path, content, {"Content-Type": media_type})
        assert status == 201, document
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def artifact(self, *names: str, **change: Any) -> dict[str, Any]:
        """A bundle with files of these names; what of its manifest is otherwise."""
        self.blob(b"{}")
        layers = [{**self.blob(CONTENT), "annotations": {TITLE: name}} for name in names]
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": BUNDLE, "config": EMPTY.document(),
            "layers": layers, "annotations": {TARGET: "rpi4-int8"},
        }  # fmt: skip
        return {**self.document({**document, **change}, MANIFEST_TYPE), "annotations": {TARGET: "rpi4-int8"}}

    def index(self, *entries: dict[str, Any], **change: Any) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "artifactType": BUILD, "manifests": list(entries)}
        self.document({**document, **change}, INDEX_TYPE, "latest")

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str]]:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, dict(answer.headers)


@pytest.fixture
def attacker(registry: DebianRegistry, request: pytest.FixtureRequest) -> Attacker:
    """With a repository of this test's."""
    return Attacker(registry, f"hostile/{abs(hash(request.node.name))}")


def refused(location: OciLocation, out: Path) -> str:
    with pytest.raises(EdgecError) as error:
        list(pull(location, ["*"], out, policy=HASTY))
    assert isinstance(error.value, PublishError)
    assert sorted(path.name for path in out.parent.glob("*")) in ([], [out.name])
    assert [path.name for path in out.glob("*") if path.name != ".work"] == []
    return str(error.value)


NAMES = ("../out.txt", "/etc/passwd", "a/../../b", "bench/..", "C:\\x", "..\\x", "a//b", "a\nb", "a\u202eb", "x" * 999)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_leave_the_folder(attacker: Attacker, tmp_path: Path, name: str) -> None:
    attacker.index(attacker.artifact("manifest.json", name))
    assert "refused" in refused(attacker.location, tmp_path / "in" / "out")


@pytest.mark.parametrize("names", [("a", "a"), ("A", "a"), ("a", "a/b")])
def test_two_files_of_one_name(attacker: Attacker, tmp_path: Path, names: tuple[str, str]) -> None:
    attacker.index(attacker.artifact("manifest.json", *names))
    assert "refused" in refused(attacker.location, tmp_path / "in" / "out")


@pytest.mark.parametrize("target", ["../../evil", "\x1b]0;pwned\x07", ".work", "a\nb"])
def test_target_that_cannot_be_one(
    attacker: Attacker, tmp_path: Path, make_bundle: Callable[..., Path], target: str
) -> None:
    notes = {TARGET: target}
    entry = {**attacker.artifact("manifest.json", annotations=notes), "annotations": notes}
    attacker.index(entry)
    bundles = collect_bundles([make_bundle(tmp_path / "bundles")], lambda step: None)
    store = OciStore(attacker.location, HASTY)
    for location in (attacker.location, replace(attacker.location, digest=entry["digest"])):
        assert f"{target!a} is not a valid target name" in refused(location, tmp_path / "in" / "out")
    with pytest.raises(PublishError, match="names a build that was published by one command"):
        store.publish(bundles, add=True, progress=lambda step: None)
    assert store.publish(bundles, add=False, progress=lambda step: None).targets == ("x86-64-int8",)


def test_file_without_a_name(attacker: Attacker, tmp_path: Path) -> None:
    attacker.index(attacker.artifact("manifest.json", layers=[attacker.blob(CONTENT)]))
    assert "has no name" in refused(attacker.location, tmp_path / "in" / "out")


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 0])
def test_file_of_another_size(attacker: Attacker, tmp_path: Path, size: int) -> None:
    layer = {**attacker.blob(CONTENT), "size": size, "annotations": {TITLE: "manifest.json"}}
    attacker.index(attacker.artifact(layers=[layer]))
    assert "manifest.json" in refused(attacker.location, tmp_path / "in" / "out")


@pytest.mark.parametrize("size", [-1, 1 << 60, "7", 1.5, None])
def test_size_that_is_none(attacker: Attacker, tmp_path: Path, size: Any) -> None:
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": BUNDLE, "config": EMPTY.document(),
        "layers": [{**attacker.blob(CONTENT), "size": size, "annotations": {TITLE: "manifest.json"}}],
        "annotations": {TARGET: "rpi4-int8"},
    }  # fmt: skip
    content = json.dumps(document).encode()
    with serving(content, MANIFEST_TYPE) as server:
        assert "damaged: layers.0.size" in refused(OciLocation(server.host, "x"), tmp_path / "in" / "out")


def test_manifest_of_another_size(attacker: Attacker, tmp_path: Path) -> None:
    attacker.index({**attacker.artifact("manifest.json"), "size": 7})
    assert "wrong size or type for rpi4-int8" in refused(attacker.location, tmp_path / "in" / "out")


def test_bundle_of_another_target(attacker: Attacker, tmp_path: Path) -> None:
    attacker.index(attacker.artifact("manifest.json", annotations={TARGET: "rpi5-int8"}))
    assert "the manifest 'rpi5-int8'" in refused(attacker.location, tmp_path / "in" / "out")


def test_target_that_is_there_twice(attacker: Attacker, tmp_path: Path) -> None:
    attacker.index(attacker.artifact("manifest.json"), attacker.artifact("manifest.json", "b"))
    assert "'rpi4-int8' twice" in refused(attacker.location, tmp_path / "in" / "out")


def test_entry_without_target(attacker: Attacker, tmp_path: Path) -> None:
    attacker.index({**attacker.artifact("manifest.json"), "annotations": {}})
    assert "no target" in refused(attacker.location, tmp_path / "in" / "out")


def test_index_of_something_else(attacker: Attacker, tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    attacker.index(attacker.artifact("manifest.json"), artifactType="application/vnd.other")
    assert "edgec did not write (application/vnd.other)" in refused(attacker.location, tmp_path / "in" / "out")
    not_overwritten(attacker.location, make_bundle(tmp_path / "bundles"))


def not_overwritten(location: OciLocation, bundle: Path) -> None:
    """What somebody else has under a tag stays there."""
    for add in (False, True):
        with pytest.raises(PublishError, match="tag") as error:
            OciStore(location, HASTY).publish(
                collect_bundles([bundle], lambda step: None), add=add, progress=lambda step: None
            )
        assert "another tag" in str(error.value)


DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        (DOCKER_IMAGE, "application/vnd.docker.container.image.v1+json", "a docker image"),
        (MANIFEST_TYPE, "application/vnd.oci.image.config.v1+json", "oci.image.config"),
        (MANIFEST_TYPE, "application/vnd.cncf.helm.config.v1+json", "helm"),
    ],
)
def test_image(
    attacker: Attacker, tmp_path: Path, make_bundle: Callable[..., Path], kind: str, config: str, told: str
) -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {**attacker.blob(b"{}"), "mediaType": config},
        "layers": [],
    }
    attacker.document(document, kind, "latest")
    assert any(word in refused(attacker.location, tmp_path / "in" / "out") for word in told.split("|"))
    not_overwritten(attacker.location, make_bundle(tmp_path / "bundles"))


def test_docker_image_for_several_platforms(
    attacker: Attacker, tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    attacker.document({"schemaVersion": 2, "mediaType": kind, "manifests": []}, kind, "latest")
    assert "a docker image for several platforms" in refused(attacker.location, tmp_path / "in" / "out")
    not_overwritten(attacker.location, make_bundle(tmp_path / "bundles"))


def serving(content: bytes, media_type: str, **headers: str) -> Scripted:
    """A registry that gives `content` for any manifest."""

    def script(asked: Asked) -> Reply:
        return Reply(headers={"Content-Type": media_type, **headers}, content=content)

    return Scripted(script)


def entry(digest: str) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": "x", "digest": digest, "size": 1}]}).encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "invalid JSON"),
        (b"[]", "neither"),
        (b"null", "neither"),
        (b"{" * 100_000, "invalid JSON"),
        (b"\xff\xfe", "invalid JSON"),
        (b'{"schemaVersion":2,"manifests":[],"layers":[]}', "not a bundle"),
        (b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % MANIFEST_TYPE.encode(), "not a bundle"),
        (b'{"schemaVersion":1,"manifests":[]}', "damaged: schemaVersion"),
        (entry("sha512:00"), "damaged: manifests.0.digest"),
        (entry("../../x"), "damaged: manifests.0.digest"),
        (entry("sha256:" + "0" * 64 + "\n"), "damaged: manifests.0.digest"),
    ],
)
def test_index_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    with serving(content, INDEX_TYPE) as server:
        assert told in refused(OciLocation(server.host, "x"), tmp_path / "in" / "out")


def test_digest_header_that_lies(tmp_path: Path) -> None:
    content = json.dumps({"schemaVersion": 2, "artifactType": BUILD, "manifests": []}).encode()
    lie = "sha256:" + "0" * 64
    with serving(content, INDEX_TYPE, **{"Docker-Content-Digest": lie}) as server:
        assert lie in refused(OciLocation(server.host, "x"), tmp_path / "in" / "out")


def test_other_content_than_was_asked_for_by_digest(tmp_path: Path) -> None:
    wanted = "sha256:" + "0" * 64
    with serving(b"{}", INDEX_TYPE, **{"Docker-Content-Digest": wanted}) as server:
        assert "has the digest" in refused(OciLocation(server.host, "x", digest=wanted), tmp_path / "in" / "out")


def test_registry_that_says_it_stored_something_else(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    def script(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(202, {"Location": "/upload"})
        return Reply(201 if asked.method == "PUT" else 404, {"Docker-Content-Digest": "sha256:" + "0" * 64})

    with Scripted(script) as server, pytest.raises(PublishError, match="the registry stored sha256:0000"):
        OciStore(OciLocation(server.host, "x"), HASTY).publish(
            collect_bundles([make_bundle(tmp_path)], lambda step: None), add=False, progress=lambda step: None
        )


def test_registry_that_gives_other_bytes_than_asked_for(tmp_path: Path) -> None:
    from edgec.publish.oci.connection import Connection
    from edgec.publish.oci.registry import Repository

    blob = Descriptor(media_type="x", digest="sha256:" + "0" * 64, size=9)
    with Scripted(lambda asked: Reply(206, {"Content-Range": "bytes 2-8/9"}, b"1234567")) as server:
        repository = Repository(Connection(server.host, HASTY), "x")
        with pytest.raises(PublishError, match="other bytes"), repository.open_blob(blob, 3):
            pass
