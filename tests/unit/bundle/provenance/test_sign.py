"""What signing writes: the statements by their specifications, and the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle.check import read_bundle
from edgec.bundle.files import bundle_files
from edgec.bundle.manifest import (
    ATTESTATIONS,
    MANIFEST,
    MEASUREMENTS,
    REPORT,
    SBOM,
    SUMS,
    Manifest,
    Measurements,
    ProjectRecord,
    accuracy_of,
    without_times,
)
from edgec.bundle.provenance.keys import private_keys
from edgec.bundle.provenance.sign import sign_bundle
from edgec.bundle.write import write_manifest, write_measurements
from edgec.errors import BundleError, StorageError, UsageError
from edgec.frozen import canonical_json
from edgec.model.spec import ModelSource
from edgec.verify.records import GateResult, OutputFidelity


def envelopes(bundle: Path) -> list[Any]:
    return [json.loads(line) for line in (bundle / ATTESTATIONS).read_text().splitlines()]


def statements(bundle: Path) -> list[Any]:
    return [json.loads(base64.b64decode(item["payload"])) for item in envelopes(bundle)]


def check_descriptor(item: Any) -> None:
    """in-toto attestation spec v1, resource_descriptor.md and digest_set.md."""
    assert set(item) <= {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert {"uri", "digest", "content"} & set(item)
    for name, value in item.get("digest", {}).items():
        assert name in {"sha256", "edgecSamplesV1"}
        assert len(bytes.fromhex(value)) == 32
    assert ":" in item.get("uri", ":")


def test_envelopes_are_as_dsse_has_them(signed: Path) -> None:
    for item in envelopes(signed):
        assert set(item) == {"payload", "payloadType", "signatures"}
        assert item["payloadType"] == "application/vnd.in-toto+json"
        assert [set(signature) for signature in item["signatures"]] == [{"keyid", "sig"}]
        assert len(base64.b64decode(item["signatures"][0]["sig"], validate=True)) == 64


def test_statements_are_as_in_toto_has_them_and_name_every_file(signed: Path) -> None:
    files = {
        file.relative_to(signed).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in signed.rglob("*")
        if file.is_file() and file.name != ATTESTATIONS
    }
    assert {SBOM, SUMS, MEASUREMENTS, REPORT, "manifest.json", "model.onnx", "bench/run.sh"} <= set(files)
    provenance, accuracy = statements(signed)
    for item in (provenance, accuracy):
        assert set(item) == {"_type", "subject", "predicateType", "predicate"}
        assert item["_type"] == "https://in-toto.io/Statement/v1"
        assert {one["name"]: one["digest"]["sha256"] for one in item["subject"]} == files
        for one in item["subject"]:
            check_descriptor(one)
    assert provenance["predicateType"] == "https://slsa.dev/provenance/v1"
    assert accuracy["predicateType"] == "urn:edgec:accuracy:v1"
    assert {item.name for item in bundle_files(signed)} == {*files, ATTESTATIONS}


def test_the_provenance_is_as_slsa_has_it(signed: Path) -> None:
    manifest = read_bundle(signed)
    predicate = statements(signed)[0]["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    build, run = predicate["buildDefinition"], predicate["runDetails"]
    assert {"buildType", "externalParameters", "resolvedDependencies"} <= set(build)
    assert set(build) <= {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert run == {"builder": {"id": "urn:edgec:builder:local", "version": {"edgec": "0.1.0"}}}
    assert build["externalParameters"]["target"] == manifest.target.plain()
    for item in build["resolvedDependencies"]:
        check_descriptor(item)
    by_role = {item["annotations"]["role"]: item for item in build["resolvedDependencies"]}
    assert by_role["model"]["digest"] == {"sha256": manifest.source.sha256}
    assert by_role["evaluation"]["digest"] == {"edgecSamplesV1": "1" * 64}
    assert by_role["calibration"]["annotations"]["samples"] == 400
    assert (by_role["project"]["name"], by_role["project"]["digest"]) == ("edgec.toml", {"sha256": "2" * 64})
    assert build["externalParameters"]["project"] == manifest.project.settings
    assert build["internalParameters"]["isa"] == manifest.isa.plain()
    canonical = canonical_json(build["externalParameters"]["target"]).encode()
    assert by_role["target"]["digest"] == {"sha256": hashlib.sha256(canonical).hexdigest()}
    purls = [item["uri"] for item in build["resolvedDependencies"] if item["annotations"]["role"] == "toolchain"]
    assert purls == ["pkg:generic/edgec@0.1.0", "pkg:generic/python@3.11.7", "pkg:pypi/onnx@1.2.3"]


def test_every_file_of_the_model_is_a_dependency(
    unsigned: Path, keys: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    source = ModelSource(
        format="python", path="net.py", sha256="a" * 64, entry="Net", weights="net.pt", weights_sha256="b" * 64,
        imported={"layers.py": "c" * 64, "blocks/conv.py": "d" * 64},
    )  # fmt: skip
    toolchain = {"torch": "2.13.0+cpu", "ONNX_Thing": "1"}
    training = make_manifest(unsigned, plain_artifact).evaluation
    project = ProjectRecord(sha256="", settings={}, code={"metric.py": "e" * 64}, threads=1)
    fields = {
        "source": source, "calibration": None, "training": training, "project": project, "toolchain": toolchain,
    }  # fmt: skip
    write_manifest(unsigned, make_manifest(unsigned, plain_artifact, **fields))
    sign_bundle(unsigned, private_keys([keys / "one.key"], {}), "https://ci.example.org/edgec")
    predicate = statements(unsigned)[0]["predicate"]
    assert predicate["runDetails"]["builder"]["id"] == "https://ci.example.org/edgec"
    listed = predicate["buildDefinition"]["resolvedDependencies"]
    files = {item["name"]: item["digest"]["sha256"][0] for item in listed[:5]}
    assert files == {"net.py": "a", "net.pt": "b", "blocks/conv.py": "d", "layers.py": "c", "metric.py": "e"}
    assert [item["annotations"]["role"] for item in listed[5:8]] == ["evaluation", "training", "target"]
    assert [item["uri"] for item in listed[-2:]] == ["pkg:pypi/onnx-thing@1", "pkg:pypi/torch@2.13.0%2Bcpu"]


def test_the_accuracy_claim_has_one_entry_for_each_judged_runtime(
    unsigned: Path, keys: Path, make_manifest: Callable[..., Manifest], make_measurement: Callable[..., Any],
    plain_artifact: Artifact,
) -> None:  # fmt: skip
    equal = (OutputFidelity(output="y", sqnr_db=float("inf"), max_abs_error=0.0),)
    measured = [
        make_measurement(),
        make_measurement(runtime="other", metric=None, agreement=None, agreement_low=None, fidelity=equal),
        make_measurement(runtime="third", judged=False),
    ]
    manifest = make_manifest(unsigned, plain_artifact, accuracy=tuple(map(accuracy_of, measured)))
    write_manifest(unsigned, manifest)
    write_measurements(unsigned, Measurements(measurements=tuple(measured), gates=manifest.gates))
    sign_bundle(unsigned, private_keys([keys / "one.key"], {}))
    predicate = statements(unsigned)[1]["predicate"]
    assert predicate["evaluation"] == {
        "name": "e.npz", "digest": {"edgecSamplesV1": "1" * 64}, "samples": 400, "labelled": True,
    }  # fmt: skip
    first, second = predicate["results"]
    digest = hashlib.sha256((unsigned / "model.onnx").read_bytes()).hexdigest()
    assert first["artifact"] == {"name": "model.onnx", "digest": {"sha256": digest}}
    assert first["runtime"] == {"name": "onnxruntime", "version": "1.2.3"}
    assert (first["metric"]["value"], first["metric"]["floatValue"], first["metric"]["drop"]) == (96.5, 97.25, 0.75)
    assert first["metric"]["dropInterval95"] == {"low": -0.25, "high": 1.75, "method": "paired bootstrap"}
    assert first["agreement"] == {"value": 0.985, "lowerBound95": 0.97}
    assert first["machine"] == {"arch": "x86_64", "features": ["avx2"], "emulated": False}
    assert [(gate["gate"], gate["limit"], gate["state"]) for gate in first["gates"]] == [("max_drop", 1.0, "met")]
    assert (second["metric"], second["agreement"], second["gates"]) == (None, None, [])
    assert second["fidelity"][0]["sqnr_db"] == "Infinity"


def test_signing_again_gives_the_same_bytes_and_replaces(signed: Path, keys: Path) -> None:
    names = (ATTESTATIONS, SBOM)
    before = {name: (signed / name).read_bytes() for name in names}
    one = private_keys([keys / "one.key"], {})
    assert sign_bundle(signed, one).keys == tuple(one)
    assert {name: (signed / name).read_bytes() for name in names} == before
    two = private_keys([keys / "two.key"], {})
    assert sign_bundle(signed, two).keys == tuple(two)
    assert [one["keyid"] for item in envelopes(signed) for one in item["signatures"]] == [*two, *two]
    both = sign_bundle(signed, {**two, **one})
    assert both.keys == tuple(sorted([*one, *two]))
    assert [[one["keyid"] for one in item["signatures"]] for item in envelopes(signed)] == [list(both.keys)] * 2
    sign_bundle(signed, {**one, **two})
    assert (signed / SBOM).read_bytes() == before[SBOM]


def test_modes_do_not_depend_on_the_umask(unsigned: Path, keys: Path) -> None:
    held = private_keys([keys / "one.key"], {})
    before = os.umask(0o077)
    try:
        sign_bundle(unsigned, held)
    finally:
        os.umask(before)
    assert {stat.S_IMODE((unsigned / name).stat().st_mode) for name in (SBOM, ATTESTATIONS)} == {0o644}


def test_only_a_bundle_as_it_was_built_is_signed(unsigned: Path, keys: Path) -> None:
    held = private_keys([keys / "one.key"], {})
    with pytest.raises(UsageError, match='builder "me" is not a URI'):
        sign_bundle(unsigned, held, "me")
    (unsigned / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.onnx: changed"):
        sign_bundle(unsigned, held)
    with pytest.raises(BundleError, match="no such folder"):
        sign_bundle(unsigned / "none", held)
    assert not (unsigned / SBOM).exists()
    assert not (unsigned / ATTESTATIONS).exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plain: plain["accuracy"][0]["metric"].update(value=99.9), "figures of accuracy"),
        (lambda plain: plain["accuracy"][0].update(agreement=1.0), "figures of accuracy"),
        (lambda plain: plain["accuracy"][0]["ops"][0].update(dtype="float32"), "figures of accuracy"),
        (lambda plain: plain["accuracy"].append(plain["accuracy"][0]), "figures of accuracy"),
        (lambda plain: plain["accuracy"].clear(), "figures of accuracy"),
        (lambda plain: plain["gates"][0].update(limit=5.0), "gates"),
        (lambda plain: plain["gates"].clear(), "gates"),
    ],
)
def test_figures_that_were_not_measured_are_not_signed(
    unsigned: Path, keys: Path, change: Callable[[Any], object], told: str
) -> None:
    plain = json.loads((unsigned / MANIFEST).read_text())
    change(plain)
    (unsigned / MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(BundleError, match=f"the {told} in {MANIFEST} are not what {MEASUREMENTS} gives") as caught:
        sign_bundle(unsigned, private_keys([keys / "one.key"], {}))
    assert "model.onnx in onnxruntime" in caught.value.what
    assert not (unsigned / ATTESTATIONS).exists()


def test_times_of_gates_are_not_compared(
    unsigned: Path, keys: Path, make_manifest: Callable[..., Manifest], make_measurement: Callable[..., Any],
    plain_artifact: Artifact,
) -> None:  # fmt: skip
    gate = GateResult(
        gate="latency_ms", artifact="model.onnx", runtime="onnxruntime", limit=2.0, value=1.1, state="met", margin=0.9
    )
    write_manifest(unsigned, make_manifest(unsigned, plain_artifact, gates=(without_times(gate),)))
    write_measurements(unsigned, Measurements(measurements=(make_measurement(),), gates=(gate,)))
    sign_bundle(unsigned, private_keys([keys / "one.key"], {}))


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_bundle_without_measurements_is_not_signed(unsigned: Path, keys: Path, content: str | None) -> None:
    (unsigned / MEASUREMENTS).unlink()
    if content is not None:
        (unsigned / MEASUREMENTS).write_text(content)
    with pytest.raises(BundleError, match="what was measured cannot be read"):
        sign_bundle(unsigned, private_keys([keys / "one.key"], {}))


def test_what_a_killed_signing_left_does_no_harm(signed: Path, keys: Path) -> None:
    left = signed / f".{SBOM}-{1 << 30}-0a0a0a0a"  # there is no such process
    left.mkdir()
    (left / SBOM).write_text("{")
    assert left.name not in {item.name.partition("/")[0] for item in bundle_files(signed)}
    sign_bundle(signed, private_keys([keys / "one.key"], {}))
    assert not left.exists()


def test_files_beside_the_manifest_are_regular_files(unsigned: Path, keys: Path) -> None:
    (unsigned / REPORT).unlink()
    os.mkfifo(unsigned / REPORT)
    with pytest.raises(BundleError, match="not a regular file"):
        bundle_files(unsigned)
    (unsigned / REPORT).unlink()
    found = {item.name: item for item in bundle_files(unsigned)}
    assert REPORT not in found
    assert found["model.onnx"].size == 256
    (unsigned / SBOM).mkdir()
    with pytest.raises((BundleError, StorageError)):
        sign_bundle(unsigned, private_keys([keys / "one.key"], {}))
