"""Bundles as one file: the same bytes each time, and nothing but a bundle comes out of one."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle import archive as archive_module
from edgec.bundle.archive import pack, read_archive, unpack, write_archive
from edgec.bundle.check import check_digests
from edgec.bundle.manifest import MANIFEST, SUMS, Manifest, Measurements
from edgec.bundle.write import write_manifest, write_measurements
from edgec.errors import BundleError, StorageError, UsageError

NAME = "x86-64-int8"
FILES = [MANIFEST, SUMS, "bench/run.sh", "measurements.json", "model.onnx", "report.html"]


@pytest.fixture
def bundle(tmp_path: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact) -> Path:
    folder = tmp_path / NAME
    (folder / "bench").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights" * 1000)
    (folder / "bench" / "run.sh").write_text("true\n")
    (folder / "bench" / "run.sh").chmod(0o755)
    write_manifest(folder, make_manifest(folder, plain_artifact))
    write_measurements(folder, Measurements(measurements=()))
    (folder / "report.html").write_text("<p>")
    return folder


@pytest.fixture
def packed(bundle: Path, tmp_path: Path) -> Path:
    write_archive(bundle, tmp_path / "b.tar.gz")
    return tmp_path / "b.tar.gz"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_there_and_back(bundle: Path, packed: Path, tmp_path: Path) -> None:
    read_archive(packed, tmp_path / "out" / NAME)
    assert contents(tmp_path / "out" / NAME) == contents(bundle)
    assert contents(bundle)["bench/run.sh"][1] == 0o755
    assert not [path for path in (tmp_path / "out" / ".work").iterdir() if path.is_dir()]
    read_archive(packed, tmp_path / "out" / NAME)  # replaces what is there
    check_digests(tmp_path / "out" / NAME)


def test_the_same_bundle_gives_the_same_bytes(
    bundle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "of another name", copy_function=shutil.copyfile)
    (copy / "bench" / "run.sh").chmod(0o700)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / "bench" / "result.json").write_text("{}")  # what a harness has left is no part of it
    before = os.umask(0o077)
    monkeypatch.setenv("TZ", "EDGEC-5")
    try:
        write_archive(copy, tmp_path / "other.tar.gz")
    finally:
        os.umask(before)
    assert (tmp_path / "other.tar.gz").read_bytes() == packed.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_archive(copy, tmp_path / "later.tar.gz")
    for name, time in (("other.tar.gz", 315532800), ("later.tar.gz", 1700000000)):
        with tarfile.open(tmp_path / name) as archive:
            members = archive.getmembers()
        assert [item.name for item in members] == FILES
        assert {(item.mtime, item.uid, item.gid, item.uname, item.gname) for item in members} == {(time, 0, 0, "", "")}
        assert {item.mode for item in members} == {0o644, 0o755}
    header = packed.read_bytes()[:10]
    assert header[3] == 0  # no name
    assert header[4:8] == bytes(4)  # no time
    assert packed.stat().st_mode & 0o777 == 0o644


def test_a_damaged_bundle_is_not_packed(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model.onnx: changed"):
        write_archive(bundle, tmp_path / "b.tar.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME]


def test_a_full_disk_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space"):
        write_archive(bundle, tmp_path / "b.tar.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME]


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    info.size = len(content) if info.isreg() else 0
    return info, content


def repacked(packed: Path, *extra: tuple[tarfile.TarInfo, bytes], last: bool = True) -> Path:
    """The archive with more members, after its last or after its manifest."""
    out = packed.with_name("hostile.tar.gz")
    with tarfile.open(packed) as archive:
        own = [(item, archive.extractfile(item).read()) for item in archive]  # type: ignore[union-attr]
    with tarfile.open(out, "w:gz") as archive:
        for info, content in (*own, *extra) if last else (own[0], *extra, *own[1:]):
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return out


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (member("../evil"), "a path that leaves the bundle"),
        (member("bench/../../evil"), "a path that leaves the bundle"),
        (member("/tmp/edgec-evil"), "an absolute path"),
        (member("./model.onnx"), "an empty part"),
        (member("bench//x"), "an empty part"),
        (member("a\nb"), "a control character"),
        (member("..\\evil"), "a backslash"),
        (member("model.onnx", b"weights" * 1000), "is there twice"),
        (member("model.onnx/x"), "is not in its manifest"),
        (member("bench"), "is not in its manifest"),
        (member("evil", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is not a regular file"),
        (member("evil", type=tarfile.LNKTYPE, linkname="model.onnx"), "is not a regular file"),
        (member("evil", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "is not a regular file"),
        (member("evil", type=tarfile.BLKTYPE), "is not a regular file"),
        (member("evil", type=tarfile.FIFOTYPE), "is not a regular file"),
        (member("evil", type=tarfile.DIRTYPE), "is not a regular file"),
        (member("evil", type=tarfile.GNUTYPE_SPARSE), "is not a regular file"),
        (member("evil", type=b"Z"), "is not a regular file"),
        (member("evil"), "is not in its manifest"),
        (member(".sbom.cdx.json-x/evil"), "is not in its manifest"),
        (member(".sbom.cdx.json-71-abcdef01/sbom.cdx.json"), "is not in its manifest"),
        (member("bench/result.json"), "is not in its manifest"),
        (member("\u202ename"), "a control character"),
        (member("c:x"), "a backslash or colon"),
        (member("n" * 5000), "a name that is too long"),
        (member("model.onnx", b"x" * 7001), "is there twice|has 7001 bytes, not 7000"),
    ],
)
def test_hostile_archives_are_refused_whole(
    packed: Path, tmp_path: Path, extra: tuple[tarfile.TarInfo, bytes], words: str
) -> None:
    for last in (True, False):
        hostile = repacked(packed, extra, last=last)
        with pytest.raises(BundleError, match=words):
            read_archive(hostile, tmp_path / "out" / NAME)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".work"]
        assert not [path for path in (tmp_path / "out" / ".work").iterdir() if path.is_dir()]
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out" / "evil").exists()
    assert not Path("/tmp/edgec-evil").exists()


def test_a_header_is_not_held_in_memory_however_large_it_says_it_is(packed: Path, tmp_path: Path) -> None:
    extra = tarfile.TarInfo("././@PaxHeader")
    extra.type, extra.size = tarfile.XHDTYPE, 1 << 29
    hostile = packed.with_name("hostile.tar.gz")
    with gzip.open(hostile, "wb", compresslevel=1) as out:
        out.write(extra.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            out.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(BundleError, match="a header larger than any"):
        read_archive(hostile, tmp_path / "out" / NAME)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_link_cannot_be_written_through(packed: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member("sub", type=tarfile.SYMTYPE, linkname=str(outside))
    with pytest.raises(BundleError, match="not a regular file"):
        read_archive(repacked(packed, link, member("sub/x"), last=False), tmp_path / "new" / NAME)
    assert list(outside.iterdir()) == []


def test_modes_are_by_name_whatever_the_archive_says(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as archive:
        own = [(item, archive.extractfile(item).read()) for item in archive]  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as archive:
        for info, content in own:
            info.mode = 0o6777
            archive.addfile(info, io.BytesIO(content))
    read_archive(tmp_path / "hostile.tar.gz", tmp_path / "new" / NAME)
    modes = {name: mode for name, (_, mode) in contents(tmp_path / "new" / NAME).items()}
    assert modes.pop("bench/run.sh") == 0o755
    assert set(modes.values()) == {0o644}


def test_what_is_damaged_or_cut_off_is_refused_and_the_old_bundle_stays(
    bundle: Path, packed: Path, tmp_path: Path
) -> None:
    whole = packed.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0x10
    plain = gzip.decompress(whole)
    damaged = [b"", b"no archive", whole[:100], whole[: len(whole) // 2], whole[:-9], bytes(changed)]
    damaged += [gzip.compress(b""), gzip.compress(plain[:700]), gzip.compress(plain[: len(plain) // 2]), plain]
    for content in damaged:
        (tmp_path / "bad.tar.gz").write_bytes(content)
        with pytest.raises(BundleError):
            read_archive(tmp_path / "bad.tar.gz", bundle)
        check_digests(bundle)
    with pytest.raises(BundleError, match="no such file"):
        read_archive(tmp_path / "none.tar.gz", bundle)


def test_what_is_larger_than_the_disk_is_refused_before_it_is_unpacked(
    bundle: Path, packed: Path, tmp_path: Path
) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    content["files"]["model.onnx"]["size"] = 1 << 60
    (bundle / MANIFEST).write_text(json.dumps(content))
    huge, _ = member("model.onnx", type=tarfile.REGTYPE)
    huge.size = 1 << 60
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.add(bundle / MANIFEST, MANIFEST)
        archive.fileobj.write(huge.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
    with pytest.raises(StorageError, match="are free"):
        read_archive(tmp_path / "bomb.tar.gz", tmp_path / "new" / NAME)
    assert not (tmp_path / "new" / NAME).exists()


def test_nothing_is_unpacked_before_the_manifest_or_beyond_its_sizes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    extract = archive_module._extract

    def count(info: tarfile.TarInfo, *rest: Any) -> None:
        written.append(info.size)
        extract(info, *rest)

    monkeypatch.setattr(archive_module, "_extract", count)
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz", compresslevel=1) as archive:
        archive.addfile(*_stream(member("model.onnx", bytes(64 << 20))))
    with pytest.raises(BundleError, match=r"'model.onnx' is its first file, which is manifest.json"):
        read_archive(bomb, tmp_path / "new" / NAME)
    assert written == []
    with pytest.raises(BundleError, match="has 9000000 bytes, not 7000"):
        read_archive(repacked(packed, member("model.onnx", bytes(9_000_000)), last=False), tmp_path / "new" / NAME)
    assert len(written) == 1
    assert written[0] < 1 << 20


def _stream(item: tuple[tarfile.TarInfo, bytes]) -> tuple[tarfile.TarInfo, io.BytesIO]:
    return item[0], io.BytesIO(item[1])


def test_a_second_gzip_member_or_anything_else_after_the_end_is_refused(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    bomb = gzip.compress(bytes(32 << 20))
    plain = gzip.decompress(whole)
    more = {"after its end": [whole + bomb, whole + b"x", whole + whole], "after its": [gzip.compress(plain + b"evil")]}
    more["or something after its files"] = [gzip.compress(plain + bytes(4 << 20))]
    for words, contents_ in more.items():
        for content in contents_:
            (tmp_path / "more.tar.gz").write_bytes(content)
            tracemalloc.start()
            with pytest.raises(BundleError, match=words):
                read_archive(tmp_path / "more.tar.gz", tmp_path / "new" / NAME)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 8 << 20
            assert not (tmp_path / "new" / NAME).exists()


def test_a_manifest_with_names_that_are_no_names_is_refused(bundle: Path, tmp_path: Path) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    record = {"sha256": "0" * 64, "size": 1}
    for names, words in (
        (["../evil"], "a path that leaves"),
        (["n" * 300], "too long"),
        (["A", "a"], "one file on some"),
        (["model.onnx/x"], "both a file and a folder"),
    ):
        wrong = content | {"files": content["files"] | dict.fromkeys(names, record)}
        with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as archive:
            archive.addfile(*_stream(member(MANIFEST, json.dumps(wrong).encode())))
        with pytest.raises(BundleError, match=words):
            read_archive(tmp_path / "hostile.tar.gz", tmp_path / "new" / NAME)


def test_what_is_no_bundle_is_not_replaced(packed: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "own" / NAME
    thesis.mkdir(parents=True)
    (thesis / "thesis.tex").write_text("precious")
    with pytest.raises(StorageError, match="not a bundle"):
        read_archive(packed, thesis)
    assert (thesis / "thesis.tex").read_text() == "precious"


def test_bundles_are_packed_and_unpacked_by_their_targets_names(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "copy")
    with pytest.raises(BundleError, match=f"two bundles are for {NAME}"):
        list(pack([bundle, other], tmp_path / "packed"))
    assert not (tmp_path / "packed").exists()
    (archive,) = pack([other, other], tmp_path / "packed")
    assert archive == tmp_path / "packed" / f"{NAME}.tar.gz"
    assert list(unpack([archive], tmp_path / "out")) == [tmp_path / "out" / NAME]
    assert contents(tmp_path / "out" / NAME) == contents(bundle)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rpi4-int8.tar.gz", f"its bundle is for {NAME}, not for rpi4-int8"),
        (f"{NAME}.tgz", "it has another ending"),
        (f".{NAME}.tar.gz", "is not a valid name"),
        ("...tar.gz", "is not a valid name"),
        (".tar.gz", "is not a valid name"),
    ],
)
def test_an_archive_of_another_name_is_refused(packed: Path, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        list(unpack([packed.rename(tmp_path / name)], tmp_path / "out" / "dist"))
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file() and path.suffix != ".lock"]


def test_nothing_is_unpacked_into_a_bundle(bundle: Path, packed: Path) -> None:
    before = sorted(bundle.rglob("*"))
    with pytest.raises(UsageError, match="this is a bundle"):
        list(unpack([packed], bundle / "bench"))
    assert sorted(bundle.rglob("*")) == before


def test_two_archives_for_one_target_are_refused_before_anything_is_put_in_place(packed: Path, tmp_path: Path) -> None:
    archives = [tmp_path / folder / f"{NAME}.tar.gz" for folder in ("a", "b")]
    for archive in archives:
        archive.parent.mkdir()
        shutil.copy(packed, archive)
    with pytest.raises(BundleError, match=f"two archives are for {NAME}"):
        list(unpack(archives, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_archive_has_only_as_many_files_as_a_bundle_may(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.bundle.archive.MAX_FILES", 3)  # of its manifest
    read_archive(packed, tmp_path / "out" / NAME)
    monkeypatch.setattr("edgec.bundle.archive.MAX_FILES", 2)
    with pytest.raises(BundleError, match="3 files; a bundle has 2 at most"):
        read_archive(packed, tmp_path / "out" / NAME)
