"""The bill of materials of a bundle: a CycloneDX 1.6 ML-BOM (cyclonedx.org/docs/1.6/json).

Written as JSON, since cyclonedx-python-lib 11.12 has no class for model cards; its strict validator checks the result.
It has no time, and its serial number depends on the manifest's digest.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from edgec.backends.interface import TensorBinding
from edgec.bundle.manifest import Accuracy, ArtifactRecord, Manifest
from edgec.bundle.provenance.dependencies import DataSet, Package, SourceFile, data_sets, packages, source_files
from edgec.errors import InternalError

_BUNDLE = "bundle"
"""Reference of the bundle itself."""


def bill_of_materials(manifest: Manifest, manifest_sha256: str) -> str:
    """The text of the BOM; it depends on the manifest alone.

    Args:
        manifest: of the bundle.
        manifest_sha256: digest of ``manifest.json``.

    Raises:
        InternalError: the official schema refuses it.
    """
    software = packages(manifest)
    runtimes = {item.runtime for item in manifest.accuracy if item.judged}
    files, data = source_files(manifest), data_sets(manifest)
    tool = software[0]
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:edgec:manifest:sha256:{manifest_sha256}')}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": tool.name, "version": tool.version}]},
            "component": {
                "type": "application",
                "bom-ref": _BUNDLE,
                "name": manifest.target.name,
                "version": manifest_sha256,
                "description": f"models and harness for: {manifest.target.description or manifest.target.name}",
            },
        },
        "components": [
            *(_model(item, manifest, data) for item in manifest.artifacts),
            *map(_source, files),
            *map(_data, data),
            *(_software(item, runtimes) for item in software),
        ],
        "dependencies": _dependencies(manifest, [*map(_source_ref, files), *map(_data_ref, data)], software),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    _validate(text)
    return text


def _validate(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise InternalError(f"the bill of materials is not valid CycloneDX 1.6: {error}")


def _model(item: ArtifactRecord, manifest: Manifest, data: tuple[DataSet, ...]) -> dict[str, Any]:
    judged = [one for one in manifest.accuracy if one.judged and one.artifact == item.artifact.file]
    properties = {
        "format": item.artifact.format,
        "precision": item.artifact.precision,
        "backend": item.artifact.backend,
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": _model_ref(item),
        "name": item.artifact.file,
        "version": item.sha256,
        "hashes": _hashes(item.sha256),
        "modelCard": {
            "modelParameters": {
                "modelArchitecture": manifest.source.entry or manifest.source.path,
                "datasets": [{"ref": _data_ref(one)} for one in data],
                "inputs": [{"format": _tensor(one)} for one in item.artifact.inputs],
                "outputs": [{"format": _tensor(one)} for one in item.artifact.outputs],
            },
            "quantitativeAnalysis": {"performanceMetrics": [line for one in judged for line in _metrics(one)]},
        },
        "properties": [
            {"name": f"edgec:{name}", "value": value} for name, value in {**properties, "size": str(item.size)}.items()
        ],
    }


def _tensor(binding: TensorBinding) -> str:
    return f"{binding.dtype}[{', '.join(map(str, binding.shape))}] {binding.name}"


def _metrics(item: Accuracy) -> Iterator[dict[str, Any]]:
    """The measurements in one runtime, on the evaluation data."""
    where = {"slice": f"evaluation data in {item.runtime} {item.runtime_version}"}
    if item.metric is not None:
        name, unit = item.metric.name, item.metric.unit
        yield {"type": f"{name} ({unit})", "value": repr(item.metric.value), **where}
        drop: dict[str, Any] = {
            "type": f"drop of {name} from float32 ({unit})",
            "value": repr(item.metric.drop),
            **where,
        }
        if item.metric.drop_low is not None and item.metric.drop_high is not None:
            bounds = {"lowerBound": repr(item.metric.drop_low), "upperBound": repr(item.metric.drop_high)}
            drop["confidenceInterval"] = bounds
        yield drop
    if item.agreement is not None:
        agreement: dict[str, Any] = {"type": "agreement with float32", "value": repr(item.agreement), **where}
        if item.agreement_low is not None:
            agreement["confidenceInterval"] = {"lowerBound": repr(item.agreement_low)}
        yield agreement
    for output in item.fidelity:
        yield {"type": f"SQNR of {output.output} (dB)", "value": repr(output.sqnr_db), **where}
        if output.equal is not None:
            yield {"type": f"equal elements of {output.output}", "value": repr(output.equal), **where}


def _source(item: SourceFile) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": _source_ref(item),
        "name": item.name,
        "hashes": _hashes(item.sha256),
        "properties": [{"name": "edgec:role", "value": item.role}],
    }


def _data(item: DataSet) -> dict[str, Any]:
    """A data set. The digest of its samples is not the hash of a file, so there are no ``hashes``."""
    return {
        "type": "data",
        "bom-ref": _data_ref(item),
        "name": f"{item.role} data",
        "version": item.info.content_digest,
        "data": [{"type": "dataset", "name": item.info.origin}],
        "properties": [
            {"name": "edgec:samples-digest", "value": item.info.content_digest},
            {"name": "edgec:samples", "value": str(item.info.samples)},
        ],
    }


def _software(item: Package, runtimes: set[str]) -> dict[str, Any]:
    """A package: the device needs one of the runtimes and none of the others."""
    return {
        "type": {"edgec": "application", "python": "platform"}.get(item.name, "library"),
        "bom-ref": item.purl,
        "name": item.name,
        "version": item.version,
        "scope": "optional" if item.name in runtimes else "excluded",
        "purl": item.purl,
    }


def _dependencies(manifest: Manifest, made_from: list[str], software: tuple[Package, ...]) -> list[dict[str, Any]]:
    purls = {item.name: item.purl for item in software}
    models = []
    for record in manifest.artifacts:
        runs_in = [item.runtime for item in manifest.accuracy if item.judged and item.artifact == record.artifact.file]
        needed = [purls[name] for name in dict.fromkeys(runs_in) if name in purls]
        models.append({"ref": _model_ref(record), "dependsOn": [*made_from, *needed]})
    return [{"ref": _BUNDLE, "dependsOn": [item["ref"] for item in models]}, *models]


def _model_ref(item: ArtifactRecord) -> str:
    return f"model:{item.artifact.file}"


def _source_ref(item: SourceFile) -> str:
    return f"source:{item.role}:{item.name}"


def _data_ref(item: DataSet) -> str:
    return f"data:{item.role}"


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
