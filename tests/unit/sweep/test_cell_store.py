"""A cell is there when it is whole, and made of what is there now."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle.write import digest_file
from edgec.dataset.file_accesses import digest_names
from edgec.quant.recipe import Recipe
from edgec.sweep.store import RECORD, SAMPLE, CellArtifact, CellRecord, CellStore, digest_sample

KEY = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> CellStore:
    (tmp_path / "root").mkdir()
    return CellStore(tmp_path / "out", tmp_path / "root")


def put(
    store: CellStore,
    folder: Path,
    artifact: Artifact,
    content: bytes,
    reads: dict[str, str],
    listed: dict[str, str] | None = None,
) -> CellRecord:
    folder.mkdir()
    file = folder / artifact.file
    file.write_bytes(content)
    made = CellArtifact(
        artifact=artifact, sha256=digest_file(file).sha256, size=len(content), recipe=Recipe(), rungs=(), passes=(),
        accuracy=(), coverage=(),
    )  # fmt: skip
    (folder / SAMPLE).mkdir()
    (folder / SAMPLE / "0.npy").write_bytes(b"sample")
    record = CellRecord(
        key=KEY, metric="top1", samples=1, artifacts=(made,), failures=(), sample=digest_sample(folder), reads=reads,
        listed=listed or {},
    )  # fmt: skip
    (folder / RECORD).write_text(record.model_dump_json())
    store.put(KEY, folder)
    return record


def test_what_is_put_is_there(store: CellStore, tmp_path: Path, plain_artifact: Artifact) -> None:
    assert store.get(KEY) is None
    record = put(store, tmp_path / "made", plain_artifact, b"model", {})
    assert store.get(KEY) == record
    again = put(store, tmp_path / "made", plain_artifact, b"another", {})
    assert store.get(KEY) == again
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize("name", [RECORD, "model.onnx", "sample/0.npy"])
def test_damage_counts_as_absent(store: CellStore, tmp_path: Path, plain_artifact: Artifact, name: str) -> None:
    put(store, tmp_path / "made", plain_artifact, b"model", {})
    file = store.folder(KEY) / name
    file.write_bytes(file.read_bytes()[:-2])
    assert store.get(KEY) is None
    file.unlink()
    assert store.get(KEY) is None


def test_another_cells_folder_is_none(store: CellStore, tmp_path: Path, plain_artifact: Artifact) -> None:
    put(store, tmp_path / "made", plain_artifact, b"model", {})
    store.folder(KEY).rename(store.folder("b" * 64))
    assert store.get("b" * 64) is None


def test_files_that_code_has_read_count(store: CellStore, tmp_path: Path, plain_artifact: Artifact) -> None:
    inside, outside = tmp_path / "root" / "labels.txt", tmp_path / "data.bin"
    for file in (inside, outside):
        file.write_text("one")
    names = [store.relative(file) for file in (inside, outside)]
    assert names == ["labels.txt", str(outside)]
    record = put(store, tmp_path / "made", plain_artifact, b"model", dict.fromkeys(names, digest_file(inside).sha256))
    assert store.get(KEY) == record
    for file in (inside, outside):
        file.write_text("two")
        assert store.get(KEY) is None
        file.write_text("one")
        assert store.get(KEY) == record
    outside.unlink()
    assert store.get(KEY) is None


def test_names_that_code_has_asked_for_count(store: CellStore, tmp_path: Path, plain_artifact: Artifact) -> None:
    images = tmp_path / "root" / "images"
    images.mkdir()
    listed = {"images": digest_names(images)}
    record = put(store, tmp_path / "made", plain_artifact, b"model", {}, listed)
    assert store.get(KEY) == record
    (images / "one.png").touch()
    assert store.get(KEY) is None
    (images / "one.png").unlink()
    assert store.get(KEY) == record
    images.rmdir()
    assert store.get(KEY) is None


def test_one_at_a_time(store: CellStore) -> None:
    held, done = threading.Event(), threading.Event()

    def other() -> None:
        held.wait(10)
        with store.lock(KEY):
            done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with store.lock(KEY):
        held.set()
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()
