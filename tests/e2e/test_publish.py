"""`edgec publish` and `edgec pull` with a real bundle: there and back, keys, full disks, two at once, Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.bundle.check import check_digests, read_bundle
from edgec.bundle.files import bundle_files
from edgec.bundle.write import digest_file, write_manifest
from edgec.errors import (
    BundleError,
    CredentialsError,
    IncompleteError,
    PublishError,
    SignatureError,
    StoppedError,
    StorageError,
    TargetError,
    UsageError,
)
from edgec.target.load import load_target

from .command import EDGEC, Run, edgec, environment, start

TARGET = "rpi4-int8"


@pytest.fixture
def dist(rpi4_bundle: Path, tmp_path: Path) -> Path:
    """A folder with the real bundle, and with it as one for another target."""
    folder = tmp_path / "dist"
    shutil.copytree(rpi4_bundle, folder / TARGET)
    return folder


def retarget(bundle: Path, name: str) -> Path:
    """A copy of a bundle, for another target."""
    copy = shutil.copytree(bundle, bundle.parent.parent / "others" / name)
    target = load_target(name, copy).target
    write_manifest(copy, read_bundle(copy).model_copy(update={"target": target, "target_digest": target.digest()}))
    return copy


def expect(run: Run, code: int, *words: str) -> None:
    assert run.code == code, run.errors
    for word in words:
        assert word in run.errors
    assert "Traceback" not in run.errors


def test_there_and_back(dist: Path, tmp_path: Path) -> None:
    run = edgec("publish", "dist", "location", cwd=tmp_path)
    expect(run, 0, f"{TARGET}: copy model.tflite", "files sent")
    assert run.output == f"{tmp_path / 'location'}\n"
    run = edgec("pull", f"file://{tmp_path}/location", "--out", "out", cwd=tmp_path)
    expect(run, 0, f"{TARGET}: pulled")
    assert run.output == f"out/{TARGET}\n"
    assert bundle_files(tmp_path / "out" / TARGET) == bundle_files(dist / TARGET)
    expect(edgec("verify", f"out/{TARGET}", cwd=tmp_path), 0)
    expect(edgec("verify", f"location/{TARGET}", cwd=tmp_path), 0)
    expect(edgec("publish", f"dist/{TARGET}", "location", cwd=tmp_path), 0, "nothing sent")
    expect(
        edgec("pull", "location", "--out", "out", "--target", "rpi4-*", cwd=tmp_path),
        0,
        "unchanged, nothing downloaded",
    )
    run = edgec("pull", "location", "--out", "out", "-t", "rpi4-int9", cwd=tmp_path)
    expect(run, TargetError.exit_code, f'did you mean "{TARGET}"?')


def test_keys(dist: Path, tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        expect(edgec("keygen", "--out", name, cwd=tmp_path), 0)
    expect(edgec("publish", "dist", "location", cwd=tmp_path), 0)
    run = edgec("pull", "location", "--out", "out", "--key", "mine.pub", cwd=tmp_path)
    expect(run, SignatureError.exit_code, f"{tmp_path}/location: {TARGET}", "not signed")
    expect(edgec("sign", f"dist/{TARGET}", "--key", "mine.key", cwd=tmp_path), 0)
    expect(edgec("publish", "dist", "location", cwd=tmp_path), 0)
    run = edgec("pull", "location", "--out", "out", "--key", "theirs.pub", cwd=tmp_path)
    expect(run, SignatureError.exit_code)
    assert not (tmp_path / "out" / TARGET).exists()
    run = edgec("pull", "location", "--out", "out", "--key", "theirs.pub", "--key", "mine.pub", cwd=tmp_path)
    expect(run, 0, "model.tflite: here already", "pulled, signed with key")
    run = edgec("pull", "location", "--out", "out", "--key", "theirs.pub", cwd=tmp_path)
    expect(run, SignatureError.exit_code)


def test_wrong_input(dist: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    expect(edgec("publish", "empty", "location", cwd=tmp_path), BundleError.exit_code, "no bundle in this folder")
    expect(edgec("publish", "dist", "oic://host/x", cwd=tmp_path), UsageError.exit_code, 'did you mean "oci"?')
    run = edgec("publish", "dist", "oci://robot:geheim@host/x", cwd=tmp_path)
    expect(run, UsageError.exit_code, "docker login")
    assert "geheim" not in run.errors
    expect(edgec("publish", "dist", cwd=tmp_path), UsageError.exit_code, "Missing argument")
    expect(edgec("pull", "nowhere", cwd=tmp_path), PublishError.exit_code, "this folder does not exist")
    model = dist / TARGET / "model.tflite"
    model.write_bytes(model.read_bytes() + b"!")
    expect(edgec("publish", "dist", "location", cwd=tmp_path), BundleError.exit_code, "model.tflite: changed")
    assert not (tmp_path / "location").exists()
    manifest = json.loads((dist / TARGET / "manifest.json").read_text())
    (dist / TARGET / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    expect(edgec("publish", "dist", "location", cwd=tmp_path), IncompleteError.exit_code, "--allow-incomplete")


def test_a_bundle_stays_one(dist: Path, tmp_path: Path) -> None:
    expect(edgec("publish", "dist", "location", cwd=tmp_path), 0)
    other = retarget(dist / TARGET, "rpi5-int8")
    for verb in (["publish", "dist", str(other)], ["pull", "location", "--out", str(other)]):
        expect(
            edgec(*verb, cwd=tmp_path),
            UsageError.exit_code,
            "this is a bundle",
            f"name the folder above: {other.parent}",
        )
    expect(edgec("verify", str(other), "--digests", cwd=tmp_path), 0)


def test_odd_input_is_told(dist: Path, tmp_path: Path) -> None:
    expect(edgec("publish", "dist", "location", cwd=tmp_path), 0)
    for value in ("nan", "inf", "1e300"):
        expect(edgec("pull", "location", "--timeout", value, cwd=tmp_path), UsageError.exit_code, "--timeout")
    index = json.loads((tmp_path / "location" / "index.json").read_text())
    index["bundles"]["\x1b]0;pwned\x07"] = index["bundles"][TARGET]
    (tmp_path / "location" / "index.json").write_text(json.dumps(index))
    for verb in (["pull", "location", "--target", "nope"], ["publish", "dist", "location", "--add"]):
        run = edgec(*verb, cwd=tmp_path)
        expect(run, PublishError.exit_code, r"'\x1b]0;pwned\x07' is not a valid target name")
        assert "\x1b" not in run.errors + run.output
    (dist / TARGET / "manifest.json").write_text("[" * 200_000)
    for verb in (["verify", f"dist/{TARGET}"], ["publish", "dist", "new"], ["inspect", f"dist/{TARGET}"]):
        expect(edgec(*verb, cwd=tmp_path), BundleError.exit_code, "the manifest cannot be read")


def blocks(bundle: Path) -> int:
    """Bytes that a bundle takes on a tmpfs."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in bundle.rglob("*") if path.is_file())


@pytest.fixture
def small_disk(dist: Path, tmp_path: Path) -> Iterator[Path]:
    """A file system with room for little more than half a bundle."""
    folder = tmp_path / "disk"
    folder.mkdir()
    room = blocks(dist / TARGET) * 6 // 10
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def test_disk_full(dist: Path, tmp_path: Path, small_disk: Path) -> None:
    expect(edgec("publish", "dist", "location", cwd=tmp_path), 0)
    run = edgec("publish", "dist", "disk/location", cwd=tmp_path)
    expect(run, StorageError.exit_code, "no space left", "publish to another location")
    assert sorted(path.name for path in (small_disk / "location").iterdir()) == [".work"]
    assert not list((small_disk / "location" / ".work").glob("stage-*"))
    run = edgec("pull", "location", "--out", "disk/out", cwd=tmp_path)
    expect(run, StorageError.exit_code, "no space left", "--out")
    assert sorted(path.name for path in (small_disk / "out").iterdir()) == [".work"]
    remount(small_disk, f"size={blocks(dist / TARGET) * 16 // 10}")
    expect(edgec("pull", "location", "--out", "disk/out", cwd=tmp_path), 0, "here already")
    check_digests(small_disk / "out" / TARGET)
    shutil.rmtree(small_disk / "out")
    expect(edgec("publish", "dist", "disk/location", cwd=tmp_path), 0)
    before = bundle_files(small_disk / "location" / TARGET)
    model = dist / TARGET / "model.onnx"  # the new version of a published bundle does not fit beside the old one
    model.write_bytes(model.read_bytes() + b"!")
    manifest = read_bundle(dist / TARGET)
    record = digest_file(model)
    artifacts = tuple(
        item.model_copy(update=record.model_dump()) if item.artifact.file == model.name else item
        for item in manifest.artifacts
    )
    write_manifest(dist / TARGET, manifest.model_copy(update={"artifacts": artifacts}))
    run = edgec("publish", "dist", "disk/location", cwd=tmp_path)
    expect(run, StorageError.exit_code, "no space left")
    assert bundle_files(small_disk / "location" / TARGET) == before
    remount(small_disk, "ro")
    expect(edgec("pull", "disk/location", "--out", "from-read-only", cwd=tmp_path), 0)
    assert bundle_files(tmp_path / "from-read-only" / TARGET) == before
    run = edgec("publish", "dist", "disk/location", cwd=tmp_path)
    expect(run, StorageError.exit_code, "read-only")
    run = edgec("pull", "location", "--out", "disk/out", cwd=tmp_path)
    expect(run, StorageError.exit_code, "read-only", "--out")


def test_publishers_at_once(dist: Path, tmp_path: Path) -> None:
    names = ("rpi5-int8", "rpi3-armv7-int8", "android-arm64-int8")
    bundles = [dist / TARGET, *(retarget(dist / TARGET, name) for name in names)]
    running = [start("publish", "--add", str(bundle), "location", cwd=tmp_path) for bundle in bundles]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    index = json.loads((tmp_path / "location" / "index.json").read_text())
    assert sorted(index["bundles"]) == sorted([TARGET, *names])
    running = [start("pull", "location", "--out", "out", cwd=tmp_path) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    for bundle in bundles:
        assert bundle_files(tmp_path / "out" / bundle.name) == bundle_files(bundle)


def test_ctrl_c_while_a_server_is_silent(dist: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        secrets = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "geheim"}
        for verb in (["pull", "s3://bucket/x"], ["publish", "dist", "s3://bucket/x"]):
            process = subprocess.Popen(
                [str(EDGEC), *verb],
                cwd=tmp_path,
                env={**environment(), **secrets, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            link, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
            assert process.returncode == StoppedError.exit_code, errors
            assert "Traceback" not in errors
            link.close()
    assert not (tmp_path / "dist" / ".work").exists()


def test_s3_without_credentials(dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    run = edgec("publish", "dist", "s3://bucket/x", cwd=tmp_path)
    expect(run, CredentialsError.exit_code, "no credentials", "AWS_ACCESS_KEY_ID")
