"""The bill of materials: accepted by CycloneDX's own strict validator, and what it tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgec.backends.interface import Artifact
from edgec.bundle.manifest import SBOM, Manifest, accuracy_of
from edgec.bundle.provenance.bom import bill_of_materials
from edgec.model.spec import ModelSource
from edgec.verify.records import OutputFidelity


def refusal(text: str) -> Any:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


def test_the_strict_validator_accepts_it_and_can_refuse(signed: Path) -> None:
    text = (signed / SBOM).read_text()
    assert refusal(text) is None
    assert refusal(text.replace('"performanceMetrics"', '"performance"')) is not None
    assert refusal(text.replace('"machine-learning-model"', '"model"')) is not None


def test_what_it_tells(signed: Path) -> None:
    content = json.loads((signed / SBOM).read_text())
    assert (content["bomFormat"], content["specVersion"], content["version"]) == ("CycloneDX", "1.6", 1)
    assert "timestamp" not in content["metadata"]
    kinds = {item["bom-ref"]: item for item in content["components"]}
    model = kinds["model:model.onnx"]
    assert model["type"] == "machine-learning-model"
    assert len(model["hashes"][0]["content"]) == 64
    card = model["modelCard"]
    assert card["modelParameters"]["inputs"] == [{"format": "float32[1, 4] x"}]
    assert card["modelParameters"]["datasets"] == [{"ref": "data:calibration"}, {"ref": "data:evaluation"}]
    metrics = {item["type"]: item for item in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["top1 (points)"]["value"] == "96.5"
    drop = metrics["drop of top1 from float32 (points)"]
    assert drop["confidenceInterval"] == {"lowerBound": "-0.25", "upperBound": "1.75"}
    assert metrics["agreement with float32"]["confidenceInterval"] == {"lowerBound": "0.97"}
    assert metrics["SQNR of y (dB)"]["value"] == "33.25"
    assert {item["type"] for item in content["components"]} == {
        "machine-learning-model", "file", "data", "application", "platform", "library",
    }  # fmt: skip
    assert kinds["data:evaluation"]["version"] == "1" * 64
    assert kinds["pkg:pypi/onnx@1.2.3"]["purl"] == "pkg:pypi/onnx@1.2.3"
    refs = set(kinds) | {content["metadata"]["component"]["bom-ref"]}
    assert len(kinds) == len(content["components"])
    for item in content["dependencies"]:
        assert {item["ref"], *item["dependsOn"]} <= refs


@pytest.mark.parametrize("entry", ["Net", None])
def test_odd_manifests_give_valid_ones(
    unsigned: Path, make_manifest: Callable[..., Manifest], make_measurement: Callable[..., Any],
    plain_artifact: Artifact, entry: str | None,
) -> None:  # fmt: skip
    name = 'my nets/ünï "net" #1?.onnx'
    source = ModelSource(
        format="onnx", path=name, sha256="a" * 64, entry=entry, weights=name, weights_sha256="a" * 64,
        imported={name: "a" * 64},
    )  # fmt: skip
    equal = (OutputFidelity(output="y", sqnr_db=float("inf"), max_abs_error=0.0, equal=1.0),)
    measured = [
        make_measurement(metric=None, agreement=None, agreement_low=None, fidelity=equal),
        make_measurement(runtime="other", failure="it crashed", metric=None, agreement=None, fidelity=()),
    ]
    manifest = make_manifest(
        unsigned, plain_artifact, source=source, calibration=None, evaluation=None,
        accuracy=tuple(map(accuracy_of, measured)), toolchain={"onnxruntime": "1.2.3+rc 1"},
    )  # fmt: skip
    text = bill_of_materials(manifest, "0" * 64)
    assert refusal(text) is None
    assert text == bill_of_materials(manifest, "0" * 64)
    assert '"type": "equal elements of y"' in text
    other = json.loads(bill_of_materials(manifest, "1" * 64))
    assert other["serialNumber"] != json.loads(text)["serialNumber"]
    scopes = {item["name"]: item["scope"] for item in other["components"] if "scope" in item}
    assert scopes == {"edgec": "excluded", "onnxruntime": "optional"}
