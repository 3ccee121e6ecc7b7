"""``bench/run.sh --digests`` on machines with few tools: signed and unsigned bundles, and what is wrong with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from debian import program

from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM, SUMS

TOOLS = ("cat", "cut", "dirname", "find", "grep", "sed", "tr")
"""What every board has."""
DIGESTS = {
    "sha256sum": ("sha256sum", "base64"),
    "shasum": ("shasum", "perl", "base64"),
    "openssl": ("openssl",),
    "busybox": ("busybox",),
}
PACKAGES = {"sha256sum": "coreutils", "base64": "coreutils", "shasum": "perl"}
"""Debian's packages, where they have other names than what they bring."""
CHECKED = "not checked here: the signature (edgec verify --key)\n"


def run(
    bundle: Path, *arguments: str, path: str = os.environ["PATH"], shell: str = "sh", **env: str
) -> tuple[int, str, str]:
    command = [
        program(shell, shell) if shell == "busybox" else str(shutil.which(shell)),
        *["sh"] * (shell == "busybox"),
        str(bundle / "bench" / "run.sh"),
        *arguments,
    ]
    done = subprocess.run(command, env={"PATH": path, **env}, capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout, done.stderr


def told(bundle: Path) -> list[str]:
    """What is wrong; the same with each shell."""
    ends = {run(bundle, "--digests", shell=shell) for shell in ("dash", "bash", "busybox")}
    ((code, output, errors),) = ends
    assert (code, output) == (2, "")
    *lines, last = errors.splitlines()
    assert last == "run.sh: the bundle is not as it was built; copy it again"
    return lines


@pytest.mark.parametrize("tools", DIGESTS)
def test_each_tool_for_digests_will_do(signed: Path, tmp_path: Path, tools: str) -> None:
    found = {name: program(name, PACKAGES.get(name, name)) for name in (*TOOLS, *DIGESTS[tools])}
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, path in found.items():
        (folder / name).symlink_to(str(path))
    assert run(signed, "--digests", path=str(folder)) == (0, f"all 8 files match {ATTESTATIONS}\n{CHECKED}", "")
    (signed / "model.onnx").write_bytes(b"")
    code, _, errors = run(signed, "--digests", path=str(folder))
    assert (code, errors.splitlines()[0]) == (2, "model.onnx: changed")
    (signed / ATTESTATIONS).unlink()
    code, _, errors = run(signed, "--digests", path=str(folder))
    assert (code, errors.splitlines()[0]) == (2, "model.onnx: changed")


def test_without_any_tool_it_says_so(signed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    code, output, errors = run(signed, "--digests", path=str(folder))
    assert (code, output) == (4, "")
    assert "sha256sum, shasum, openssl or busybox is needed" in errors


def test_unsigned_bundles(unsigned: Path) -> None:
    assert run(unsigned, "--digests") == (0, "all 3 files match SHA256SUMS\n", "")
    (unsigned / "bench" / "result.json").write_text("{}")
    (unsigned / "bench" / ".result.json.9.partial").write_text("{}")
    assert run(unsigned, "--digests")[0] == 0
    (unsigned / "model.onnx").unlink()
    (unsigned / "bench" / "bench.py").write_text("pass\n\n")
    (unsigned / "bench" / "my tool").write_text("")
    (unsigned / "-n").write_text("")
    assert told(unsigned)[:2] == ["bench/bench.py: changed", "model.onnx: missing"]
    assert sorted(told(unsigned)[2:]) == ["-n: unexpected", "bench/my tool: unexpected"]
    (unsigned / SUMS).write_text("")
    assert told(unsigned) == ["SHA256SUMS: missing or damaged"]
    (unsigned / SUMS).unlink()
    assert told(unsigned) == ["SHA256SUMS: missing or damaged"]


def test_signed_bundles_have_all_of_their_files_checked(signed: Path) -> None:
    for name in (MANIFEST, "report.html", "measurements.json", SBOM, SUMS):
        content = (signed / name).read_bytes()
        (signed / name).write_bytes(content + b" ")
        assert told(signed) == [f"{name}: changed"]
        (signed / name).unlink()
        assert told(signed) == [f"{name}: missing"]
        (signed / name).write_bytes(content)
    (signed / "bench" / "result.json").write_text("{}")
    assert run(signed, "--digests")[0] == 0
    (signed / "model.onnx").rename(signed / "MODEL.onnx")
    assert told(signed) == ["model.onnx: missing", "MODEL.onnx: unexpected"]


def test_links_are_no_files_of_the_bundle(signed: Path, tmp_path: Path) -> None:
    (signed / "model.onnx").rename(tmp_path / "model.onnx")
    (signed / "model.onnx").symlink_to(tmp_path / "model.onnx")
    (signed / "bench" / "result.json").symlink_to("/etc/hostname")
    assert told(signed) == ["model.onnx: is a symbolic link", "bench/result.json: unexpected"]


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"payload":"e30=","payloadType"', b'{"payload":"%%%%"'])
def test_damaged_attestations(signed: Path, content: bytes) -> None:
    (signed / ATTESTATIONS).write_bytes(content)
    assert told(signed) == [f"{ATTESTATIONS}: missing or damaged"]


def test_names_that_lead_out_are_not_followed(unsigned: Path) -> None:
    for name in ("../outside", "/etc/hostname", "bench/../../outside"):
        (unsigned / SUMS).write_text(f"{'0' * 64}  {name}\n")
        assert f"{name}: leads out of the bundle" in told(unsigned)


def test_files_of_others_matter_to_the_check_alone(signed: Path) -> None:
    """A virtual environment in the bundle's folder is no reason not to time it."""
    (signed / "venv").mkdir()
    (signed / "venv" / "pyvenv.cfg").write_text("")
    assert told(signed) == ["venv/pyvenv.cfg: unexpected"]
    assert run(signed, "--check-only", PYTHON=sys.executable) == (0, "", "")  # this bundle's bench.py does nothing
    (signed / "model.onnx").write_bytes(b"")
    code, _, errors = run(signed, "--check-only", PYTHON=sys.executable)
    assert (code, "model.onnx: changed" in errors) == (2, True)
