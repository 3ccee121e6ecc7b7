"""Reading a bundle, and finding every way in which it is not what was built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.backends.interface import Artifact, OpRecord
from edgec.bundle.check import check_digests, read_bundle
from edgec.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    SUMS,
    Manifest,
    Measurements,
    PassTime,
    accuracy_of,
    count_ops,
    without_times,
)
from edgec.bundle.write import digest_file, write_manifest, write_measurements
from edgec.errors import BundleError
from edgec.verify.records import GateResult, Measurement, OutputFidelity


@pytest.fixture
def bundle(tmp_path: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact) -> Path:
    folder = tmp_path / "rpi4"
    (folder / "bench").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "bench" / "bench.py").write_text("pass\n")
    write_manifest(folder, make_manifest(folder, plain_artifact))
    (folder / "report.html").write_text("<p>")
    (folder / "bench" / "result.json").write_text("{}")
    return folder


def wrong(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        check_digests(bundle)
    assert caught.value.where == str(bundle)
    assert "edgec build" in caught.value.hint
    return caught.value.what.removeprefix("the bundle is not as it was built: ")


def test_a_bundle_as_it_was_built(bundle: Path) -> None:
    manifest = check_digests(bundle)
    assert list(manifest.files) == [SUMS, "bench/bench.py", "model.onnx"]
    assert manifest == read_bundle(bundle)
    subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=bundle, check=True, capture_output=True)


def test_a_version_that_is_none_is_refused(bundle: Path) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**content, "version": "latest"}))
    with pytest.raises(BundleError, match=r'damaged: version: .*"latest" is not a version as PEP 440'):
        read_bundle(bundle)


def test_every_change_is_found(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"weighty")
    assert wrong(bundle) == "model.onnx: changed"
    (bundle / "model.onnx").write_bytes(b"weights and more")
    assert wrong(bundle) == "model.onnx: changed (16 bytes, not 7)"
    (bundle / "model.onnx").unlink()
    (bundle / "bench" / "spare.npz").write_text("x")
    (bundle / SUMS).write_text("")
    assert wrong(bundle).split("; ")[1:] == ["model.onnx: missing", "bench/spare.npz: unexpected"]


def test_links_and_ways_out_are_found(bundle: Path) -> None:
    outside = bundle.parent / "outside"
    outside.mkdir()
    (bundle / "model.onnx").rename(outside / "model.onnx")
    (bundle / "model.onnx").symlink_to(outside / "model.onnx")
    assert wrong(bundle) == "model.onnx: is a symbolic link"
    (bundle / "model.onnx").unlink()
    (outside / "model.onnx").rename(bundle / "model.onnx")
    (bundle / "bench").rename(outside / "bench")
    (bundle / "bench").symlink_to(outside / "bench")
    assert wrong(bundle) == "bench/bench.py: is a symbolic link; bench: is a symbolic link"
    (bundle / "bench").unlink()
    (outside / "bench").rename(bundle / "bench")
    (bundle / "more").symlink_to(outside)
    assert wrong(bundle) == "more: is a symbolic link"
    (bundle / "more").unlink()
    (outside / "secret").write_text("x")
    record = digest_file(outside / "secret").model_dump()
    content = json.loads((bundle / MANIFEST).read_text())
    content["files"] |= {"../outside/secret": record, str(outside / "secret"): record}
    (bundle / MANIFEST).write_text(json.dumps(content))
    found = wrong(bundle).split("; ")
    assert found == [
        "../outside/secret: a path that leaves the bundle",
        f"{outside / 'secret'}: an absolute path",
    ]


def test_names_that_a_manifest_or_a_folder_cannot_be_trusted_with(bundle: Path) -> None:
    evil = "\x1b]0;pwned\x07"
    (bundle / evil).write_text("x")
    (bundle / os.fsdecode(b"\xff")).write_text("x")
    assert sorted(wrong(bundle).split("; ")) == [r"\udcff: unexpected", r"\x1b]0;pwned\x07: unexpected"]
    for name in (evil, os.fsdecode(b"\xff")):
        (bundle / name).unlink()
    content = json.loads((bundle / MANIFEST).read_text())
    record = {"sha256": "0" * 64, "size": 1}
    (bundle / MANIFEST).write_text(json.dumps({**content, "files": content["files"] | {"x" * 300: record}}))
    assert wrong(bundle) == "x" * 300 + ": a name that is too long"
    for edit in ({"files": {evil: None}}, {"schema_version": SCHEMA + 1, "edgec": evil}):
        (bundle / MANIFEST).write_text(json.dumps(content | edit))
        with pytest.raises(BundleError) as caught:
            read_bundle(bundle)
        assert r"\x1b]0;pwned\x07" in str(caught.value)
        assert "\x1b" not in str(caught.value)


def test_a_manifest_that_contradicts_itself(bundle: Path) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    content["artifacts"][0]["sha256"] = "0" * 64
    (bundle / MANIFEST).write_text(json.dumps(content))
    assert wrong(bundle) == "model.onnx: the manifest contradicts itself"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"schema_version": SCHEMA + 1}, f"a newer edgec wrote this bundle (schema {SCHEMA + 1}, this edgec reads"),
        ({"schema_version": SCHEMA - 1}, f"an older edgec wrote this bundle (schema {SCHEMA - 1}, this edgec reads"),
        ({"kind": "something"}, "this is not the manifest of an edgec bundle"),
        ({"extra": 1}, "the manifest is damaged: extra"),
        ({"target": None}, "the manifest is damaged: target"),
        ({"schema_version": "1"}, "the manifest is damaged: schema_version"),
    ],
)
def test_other_manifests_are_refused(bundle: Path, edit: dict[str, object], words: str) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(content | edit))
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    assert words in caught.value.what
    assert caught.value.where == str(bundle / MANIFEST)


def test_what_is_no_bundle_is_told(bundle: Path, tmp_path: Path) -> None:
    (bundle / MANIFEST).write_bytes(b"\xff{")
    with pytest.raises(BundleError, match="the manifest cannot be read"):
        read_bundle(bundle)
    for bracket in ("[", '{"a":'):
        (bundle / MANIFEST).write_text(bracket * 200_000)
        with pytest.raises(BundleError, match="the manifest cannot be read"):
            read_bundle(bundle)
    (bundle / MANIFEST).write_text("[1]")
    with pytest.raises(BundleError, match="not the manifest of an edgec bundle"):
        read_bundle(bundle)
    (bundle / MANIFEST).unlink()
    with pytest.raises(BundleError, match="not a complete one"):
        read_bundle(bundle)
    with pytest.raises(BundleError, match="there is no such folder"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="a bundle is a folder"):
        read_bundle(bundle / "model.onnx")


def test_the_manifest_reads_back_equal_with_infinities(
    tmp_path: Path, make_manifest: Callable[..., Manifest], make_measurement: Callable[..., Measurement]
) -> None:
    exact = make_measurement(fidelity=(OutputFidelity(output="y", sqnr_db=float("inf"), max_abs_error=0.0),))
    manifest = make_manifest(tmp_path, accuracy=(accuracy_of(exact),))
    text = manifest.to_json()
    assert Manifest.model_validate_json(text) == manifest
    assert Manifest.model_validate_json(text).to_json() == text
    assert Manifest.model_validate_json(text).target.digest() == manifest.target_digest
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    times = Measurements(measurements=(exact,), passes=(PassTime(artifact="model.onnx", name="p", seconds=0.5),))
    write_measurements(tmp_path, times)
    assert Measurements.model_validate_json((tmp_path / "measurements.json").read_text()) == times


def test_times_stay_out_of_the_manifest(
    tmp_path: Path, make_manifest: Callable[..., Manifest], make_measurement: Callable[..., Measurement]
) -> None:
    slow = make_measurement(latency=None, peak_rss_mb=999.0)
    assert make_manifest(tmp_path, accuracy=(accuracy_of(slow),)) == make_manifest(tmp_path)
    elsewhere = make_measurement(machine=slow.machine.model_copy(update={"cpu": "another", "cores": 64}))
    assert accuracy_of(elsewhere) == accuracy_of(slow)


@pytest.mark.parametrize(("name", "timed"), [("latency_ms", True), ("min_speedup", True), ("max_size_kib", False)])
def test_gates_of_times_tell_only_how_they_came_out(name: str, timed: bool) -> None:
    gate = GateResult(
        gate=name, artifact="model.onnx", runtime="onnxruntime", limit=5.0, value=3.0, state="met", margin=2.0,
        reason="on this cpu",
    )  # fmt: skip
    faster = gate.model_copy(update={"value": 2.5, "margin": 2.5, "reason": "on that cpu"})
    assert (without_times(gate) == without_times(faster)) is timed
    assert without_times(gate).state == "met"
    assert without_times(gate).limit == 5.0
    assert (without_times(gate) == gate) is not timed


WRITE = """
import sys
from pathlib import Path
from edgec.bundle.manifest import Manifest
from edgec.bundle.write import write_manifest
folder = Path(sys.argv[1])
write_manifest(folder, Manifest.model_validate_json((folder / "manifest.json").read_text()))
"""


def test_the_manifests_bytes_do_not_depend_on_the_process(bundle: Path) -> None:
    before = {name: (bundle / name).read_bytes() for name in (MANIFEST, SUMS)}
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"}
        subprocess.run([sys.executable, "-c", WRITE, str(bundle)], env=env, check=True)
        assert {name: (bundle / name).read_bytes() for name in before} == before


def test_ops_that_are_alike_are_counted() -> None:
    ops = [OpRecord(name=str(index), op="Conv", dtype="int8") for index in range(3)]
    ops.append(OpRecord(name="x", op="Conv", dtype="float32", reason="shared"))
    ops.append(OpRecord(name="y", op="Add", dtype="int8"))
    found = [(item.op, item.dtype, item.reason, item.count) for item in count_ops(ops)]
    assert found == [("Add", "int8", "", 1), ("Conv", "float32", "shared", 1), ("Conv", "int8", "", 3)]
