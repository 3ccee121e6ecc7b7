"""Keys, signing and verifying through the real command, on a real bundle; and with openssl alone."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edgec.bundle.check import read_bundle
from edgec.bundle.write import write_manifest

from .command import edgec, edgec_here

DOCS = Path(__file__).parents[2] / "docs" / "signing.md"
FILES = ("bundle.intoto.jsonl", "sbom.cdx.json")


@pytest.fixture
def work(rpi4_bundle: Path, tmp_path: Path) -> Path:
    """A folder with a pair of keys, ``fleet``, and a copy of the bundle."""
    shutil.copytree(rpi4_bundle, tmp_path / "rpi4-int8")
    run = edgec_here("keygen", "--out", "fleet", cwd=tmp_path)
    assert run.code == 0, run.errors
    return tmp_path


def sign(work: Path, *arguments: str) -> None:
    run = edgec_here("sign", "rpi4-int8", *(arguments or ("--key", "fleet.key")), cwd=work)
    assert run.code == 0, run.errors


def test_a_pair_of_keys_is_made_once_and_the_secret_is_not_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stat.S_IMODE((work / "fleet.key").stat().st_mode) == 0o600
    again = edgec_here("keygen", "--out", "fleet", cwd=work)
    assert (again.code, "not overwritten" in again.errors) == (34, True)
    monkeypatch.setenv("EDGEC_KEY_PASSWORD", "open sesame")
    made = edgec_here("keygen", cwd=work)
    secret = (work / "edgec.key").read_text().splitlines()[1]
    assert (made.code, secret in made.output + made.errors, "sesame" in made.output + made.errors) == (0, False, False)
    sign(work, "--key", "edgec.key")
    monkeypatch.setenv("EDGEC_KEY_PASSWORD", "wrong")
    run = edgec_here("sign", "rpi4-int8", "--key", "edgec.key", cwd=work)
    assert (run.code, "wrong for this key" in run.errors) == (34, True)


def test_a_bundle_is_signed_verified_and_replayed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = work / "rpi4-int8"
    unsigned = edgec("verify", "rpi4-int8", "--key", "fleet.pub", cwd=work)
    assert (unsigned.code, "is not signed" in unsigned.errors) == (34, True)
    sign(work)
    written = [(bundle / name).read_bytes() for name in FILES]
    run = edgec("verify", "rpi4-int8", "--key", "fleet.pub", cwd=work)
    assert run.code == 0, run.errors
    assert "for rpi4-int8" in run.output
    assert "model.tflite in ai-edge-litert: outputs as recorded" in run.output
    quick = edgec("verify", "rpi4-int8", "--digests", cwd=work)
    assert (quick.code, "not verified: give --key" in quick.output, "outputs" in quick.output) == (0, True, False)
    monkeypatch.setenv("EDGEC_SIGNING_KEY", (work / "fleet.key").read_text())
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    sign(work, "--builder", "urn:edgec:builder:local")
    assert [(bundle / name).read_bytes() for name in FILES] == written
    (work / "fleet.key").unlink()
    bad = edgec("sign", "rpi4-int8", "--key", "fleet.key", cwd=work)
    assert (bad.code, "cannot be read" in bad.errors) == (34, True)


def test_odd_keys_and_passphrases_are_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(work / "pipe")
    for arguments, code, told in (
        (["keygen", "--out", "."], 2, "not a name for a key"),
        (["verify", "rpi4-int8", "--key", "pipe"], 34, "not a regular file"),
        (["verify", "fleet.pub", "--key", "fleet.pub"], 34, "a bundle is a folder, this is a file"),
    ):
        run = edgec(*arguments, cwd=work, timeout=30)
        assert (run.code, told in run.errors, "Traceback" in run.errors) == (code, True, False), run.errors
    assert not list(work.glob(".*"))
    monkeypatch.setenv("EDGEC_KEY_PASSWORD", "x" * 1024)
    run = edgec_here("keygen", "--out", "long", cwd=work)
    assert (run.code, "more than 1023" in run.errors) == (34, True)
    monkeypatch.setenv("EDGEC_KEY_PASSWORD", os.fsdecode(b"\xff"))
    assert edgec_here("keygen", "--out", "odd", cwd=work).code == 0
    sign(work, "--key", "odd.key")
    monkeypatch.setenv("EDGEC_SIGNING_KEY", os.fsdecode(b"\xff"))
    run = edgec_here("sign", "rpi4-int8", cwd=work)
    assert (run.code, "not a private key" in run.errors) == (34, True)


def test_no_program_of_an_unverified_bundle_is_run(work: Path) -> None:
    bundle = work / "rpi4-int8"
    (bundle / "bench" / "bench.py").write_text(f"open({str(work / 'sprung')!r}, 'w')\n")
    write_manifest(bundle, read_bundle(bundle))
    run = edgec_here("verify", "rpi4-int8", cwd=work)
    assert (run.code, "model.tflite in ai-edge-litert: outputs as recorded" in run.output) == (0, True), run.errors
    assert not (work / "sprung").exists()
    (bundle / "\x1b]0;pwned\x07").touch()
    run = edgec_here("verify", "rpi4-int8", "--digests", cwd=work)
    assert (run.code, r"\x1b]0;pwned\x07: unexpected" in run.errors, "\x1b" in run.errors) == (31, True, False)


def test_what_is_not_as_signed_is_refused(work: Path) -> None:
    bundle = work / "rpi4-int8"
    sign(work)
    edgec_here("keygen", "--out", "other", cwd=work)
    wrong = edgec_here("verify", "rpi4-int8", "--key", "other.pub", cwd=work)
    assert (wrong.code, "the signature is invalid" in wrong.errors) == (34, True)
    either = edgec_here("verify", "rpi4-int8", "--digests", "--key", "other.pub", "--key", "fleet.pub", cwd=work)
    assert either.code == 0, either.errors
    secret = edgec_here("verify", "rpi4-int8", "--key", "fleet.key", cwd=work)
    assert (secret.code, "this is a private key" in secret.errors) == (34, True)
    (bundle / "report.html").write_text("<p>all is well")  # the manifest has no digest of it
    assert edgec_here("verify", "rpi4-int8", "--digests", cwd=work).code == 0
    run = edgec_here("verify", "rpi4-int8", "--key", "fleet.pub", cwd=work)
    assert (run.code, "report.html: changed" in run.errors, "Traceback" in run.errors) == (34, True, False)
    (bundle / "model.tflite").write_bytes(b"")
    run = edgec_here("sign", "rpi4-int8", "--key", "fleet.key", cwd=work)
    assert (run.code, "model.tflite: changed" in run.errors) == (31, True)


def test_openssl_alone_checks_a_bundle_as_the_documentation_says(work: Path) -> None:
    bundle = work / "rpi4-int8"
    sign(work)
    edgec_here("keygen", "--out", "other", cwd=work)
    scripts = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (script,) = [text for text in scripts if "pkeyutl" in text]
    (work / "check.sh").write_text(script)

    def check(key: str = "fleet.pub") -> int:
        command = ["sh", "check.sh", "rpi4-int8", key]
        return subprocess.run(command, cwd=work, capture_output=True, check=False).returncode

    (bundle / "bench" / "result.json").write_text("{}")
    assert check() == 0
    assert check("other.pub") != 0
    (bundle / "extra").write_text("")
    assert check() != 0
    (bundle / "extra").unlink()
    (bundle / "model.tflite").rename(work / "model.tflite")
    assert check() != 0
    (bundle / "model.tflite").symlink_to(work / "model.tflite")
    assert check() != 0
    (bundle / "model.tflite").unlink()
    (work / "model.tflite").rename(bundle / "model.tflite")
    assert check() == 0
    attestations = (bundle / "bundle.intoto.jsonl").read_text()
    (bundle / "bundle.intoto.jsonl").write_text(attestations.replace("A", "B", 1))
    assert check() != 0


def test_the_script_of_the_bundle_checks_all_files(work: Path) -> None:
    sign(work)
    command = ["sh", "rpi4-int8/bench/run.sh", "--digests"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, "files match bundle.intoto.jsonl" in done.stdout) == (0, True)
    (work / "rpi4-int8" / "manifest.json").write_text("{}")
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, "manifest.json: changed" in done.stderr) == (2, True)
