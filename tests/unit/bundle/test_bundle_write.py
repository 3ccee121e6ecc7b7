"""A bundle has fixed modes and times, and nothing that is not edgec's is ever replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgec.bundle.manifest import MANIFEST, SUMS
from edgec.bundle.write import discard, is_digested, publish_folder, refuse_within, source_date_epoch
from edgec.errors import StorageError, UsageError
from edgec.storage.staging import stage


def publish(destination: Path, content: str) -> None:
    with stage(destination.parent) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(content)
        (folder / MANIFEST).write_text("{}")
        publish_folder(folder, destination)


def left_over(parent: Path) -> list[str]:
    return sorted(path.name for path in (parent / ".work").iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_modes_are_the_same_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with stage(tmp_path) as folder:
            (folder / "bench").mkdir()
            for name in ("bench.py", "run.sh", "inputs.npz"):
                (folder / "bench" / name).write_text("x")
            (folder / "bench" / "inputs.npz").chmod(0o6777)  # modes are by name, not by what they were
            (folder / "run.sh").write_text("another")
            (folder / MANIFEST).write_text("{}")
            publish_folder(folder, tmp_path / "rpi4")
    finally:
        os.umask(before)
    paths = (tmp_path / "rpi4", *(tmp_path / "rpi4").rglob("*"))
    modes = {path.relative_to(tmp_path / "rpi4").as_posix(): path.stat().st_mode & 0o7777 for path in paths}
    programs = {".": 0o755, "bench": 0o755, "bench/bench.py": 0o755, "bench/run.sh": 0o755}
    assert modes == {**programs, "bench/inputs.npz": 0o644, "run.sh": 0o644, MANIFEST: 0o644}


def test_files_get_the_time_that_source_date_epoch_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "now", "x")
    assert (tmp_path / "now" / MANIFEST).stat().st_mtime > 1_600_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "315532800")
    publish(tmp_path / "then", "x")
    for name in (MANIFEST, "sub/file"):
        assert (tmp_path / "then" / name).stat().st_mtime == 315532800


@pytest.mark.parametrize("text", ["yesterday", "-1", "1e9", "12345678901", "²"])
def test_a_malformed_source_date_epoch_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        source_date_epoch()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert source_date_epoch() is None


def test_what_is_not_a_bundle_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "folder"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    file = tmp_path / "file"
    file.write_text("precious")
    real = tmp_path / "real"
    publish(real, "x")
    link = tmp_path / "link"
    link.symlink_to(real)
    broken = tmp_path / "broken"
    broken.symlink_to(tmp_path / "nowhere")
    for place in (foreign, file, link, broken):
        for act in (lambda place=place: publish(place, "new"), lambda place=place: discard(place)):
            with pytest.raises(StorageError) as caught:
                act()
            assert "something that is not a bundle is in the way" in caught.value.what
            assert caught.value.where == str(place)
    assert (foreign / "thesis.tex").read_text() == file.read_text() == "precious"
    assert link.is_symlink()
    assert broken.is_symlink()
    assert (real / "sub" / "file").read_text() == "x"


def test_nothing_is_put_into_a_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "dist" / "rpi4"
    publish(bundle, "x")
    (tmp_path / "link").symlink_to(bundle)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / MANIFEST).write_text("{}")  # of something else, a web page perhaps
    for place in (tmp_path, tmp_path / "dist", tmp_path / "dist" / "new", tmp_path / "page" / "below"):
        refuse_within(place)
    for place in (bundle, tmp_path / "link", tmp_path / "page"):
        with pytest.raises(UsageError, match="this is a bundle") as caught:
            refuse_within(place)
        assert caught.value.hint == f"name the folder above: {place.resolve().parent}"
    (bundle / SUMS).write_text("")
    with pytest.raises(UsageError, match="this is a bundle") as caught:
        refuse_within(bundle / "new" / "folder")
    assert (caught.value.where, caught.value.hint) == (str(bundle), f"name the folder above: {bundle.parent}")
    (bundle / MANIFEST).unlink()
    with pytest.raises(UsageError, match="this is a bundle"):
        refuse_within(bundle)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "rpi4").mkdir()
    publish(tmp_path / "rpi4", "x")
    assert (tmp_path / "rpi4" / MANIFEST).exists()


def test_discarding(tmp_path: Path) -> None:
    destination = tmp_path / "rpi4"
    discard(destination)
    publish(destination, "old")
    discard(destination)
    assert not destination.exists()
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "digested"),
    [
        ("model.onnx", True),
        ("SHA256SUMS", True),
        ("bench/bench.py", True),
        ("bench/result.txt", True),
        ("result.json", True),
        ("bench/deep/result.json", True),
        ("bench/manifest.json", True),
        ("bench/result.json", False),
        ("bench/result-pi.json", False),
        ("bench/.result.json.71.partial", False),
        ("bench/.hidden", True),
        (".sbom.cdx.json-x/evil", True),
        (".sbom.cdx.json-71-abcd1234/evil", True),
        (".sbom.cdx.json-71-abcd1234/x/sbom.cdx.json", True),
        (".sbom.cdx.json-71-abcd1234/sbom.cdx.json", False),
        (".bundle.intoto.jsonl-71-abcd1234/bundle.intoto.jsonl", False),
        (".bundle.intoto.jsonl-71-abcd_234/bundle.intoto.jsonl", True),
        ("manifest.json", False),
        ("measurements.json", False),
        ("report.html", False),
    ],
)
def test_what_is_digested(path: str, digested: bool) -> None:
    assert is_digested(path) is digested
