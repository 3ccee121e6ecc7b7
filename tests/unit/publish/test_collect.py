from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.errors import BundleError, IncompleteError, PublishError
from edgec.passes.contract import Coverage
from edgec.publish.collect import collect_bundles
from edgec.publish.store import LocalBundle

MakeBundle = Callable[..., Path]


def find(*folders: Path) -> tuple[LocalBundle, ...]:
    return collect_bundles(folders, lambda step: None)


def test_bundles_and_folders_of_bundles(tmp_path: Path, make_bundle: MakeBundle) -> None:
    one, two = make_bundle(tmp_path / "dist"), make_bundle(tmp_path / "dist", "rpi4-int8")
    (tmp_path / "dist" / ".work").mkdir()
    shutil.copytree(one, tmp_path / "dist" / ".work" / "stage-1")
    (tmp_path / "dist" / "sweep").mkdir()
    for folders in ((tmp_path / "dist",), (one, two), (one, tmp_path / "dist")):
        assert [bundle.target for bundle in find(*folders)] == ["rpi4-int8", "x86-64-int8"]
    (bundle,) = find(one)
    assert bundle.path == one
    assert [file.name for file in bundle.files] == [
        "SHA256SUMS", "bench/bench.py", "bench/run.sh", "manifest.json", "measurements.json", "model.onnx",
        "report.html",
    ]  # fmt: skip


def test_what_is_no_bundle(tmp_path: Path, make_bundle: MakeBundle) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, words in [
        ("empty", "no bundle in this folder"),
        ("file", "this is a file"),
        ("none", "there is no such folder"),
    ]:
        with pytest.raises(BundleError, match=words):
            find(tmp_path / name)
    one, other = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="two bundles have the target x86-64-int8"):
        find(one, other)


def test_incomplete_and_changed_bundles(tmp_path: Path, make_bundle: MakeBundle) -> None:
    gap = Coverage(subject="model.tflite", state="not built", reason="op Frobnicate is unknown")
    incomplete = make_bundle(tmp_path / "a", complete=False, coverage=(gap,))
    with pytest.raises(IncompleteError, match=r"model\.tflite \(not built: op Frobnicate is unknown\)") as caught:
        find(incomplete)
    assert "--allow-incomplete" in caught.value.hint
    (allowed,) = collect_bundles([incomplete], lambda step: None, allow_incomplete=True)
    assert allowed.path == incomplete
    changed = make_bundle(tmp_path / "b")
    (changed / "model.onnx").write_bytes(b"!")
    with pytest.raises(BundleError, match=r"model\.onnx: changed"):
        find(changed)


def test_what_could_not_be_pulled_is_not_published(tmp_path: Path, make_bundle: MakeBundle) -> None:
    from edgec.bundle.check import read_bundle
    from edgec.bundle.write import write_manifest

    bundle = make_bundle(tmp_path)
    (bundle / "MODEL.onnx").write_bytes(b"another")
    write_manifest(bundle, read_bundle(bundle))
    with pytest.raises(PublishError, match="one file on some file systems"):
        find(bundle)
