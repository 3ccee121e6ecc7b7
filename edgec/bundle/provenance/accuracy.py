"""The accuracy of a bundle's artifacts as an in-toto predicate that edgec defines (docs/signing.md)."""

from __future__ import annotations

from typing import Any

from edgec.bundle.manifest import Accuracy, Manifest
from edgec.bundle.provenance.dependencies import SAMPLES_DIGEST

ACCURACY = "urn:edgec:accuracy:v1"


def accuracy_claim(manifest: Manifest) -> dict[str, Any]:
    """The accuracy predicate of a bundle: one result for each artifact in each runtime that it was evaluated in.

    Numbers are those of the manifest; infinite numbers are strings, as there.
    """
    evaluation = manifest.evaluation
    return {
        "target": manifest.target.name,
        "complete": manifest.complete,
        "evaluation": None
        if evaluation is None
        else {
            "name": evaluation.origin,
            "digest": {SAMPLES_DIGEST: evaluation.content_digest},
            "samples": evaluation.samples,
            "labelled": evaluation.has_labels,
        },
        "results": [_result(item, manifest) for item in manifest.accuracy if item.judged],
    }


def _result(item: Accuracy, manifest: Manifest) -> dict[str, Any]:
    record = next(record for record in manifest.artifacts if record.artifact.file == item.artifact)
    plain = item.plain()
    return {
        "artifact": {"name": item.artifact, "digest": {"sha256": record.sha256}},
        "backend": item.backend,
        "precision": record.artifact.precision,
        "runtime": {"name": item.runtime, "version": item.runtime_version},
        "machine": {**plain["machine"], "emulated": item.emulated},
        "samples": item.samples,
        "metric": _metric(item, plain["metric"]),
        "agreement": None
        if item.agreement is None
        else {"value": plain["agreement"], "lowerBound95": plain["agreement_low"]},
        "fidelity": plain["fidelity"],
        "gates": [
            {key: gate.plain()[key] for key in ("gate", "limit", "value", "margin", "state", "reason")}
            for gate in manifest.gates
            if (gate.artifact, gate.runtime) == (item.artifact, item.runtime)
        ],
        "failure": item.failure,
    }


def _metric(item: Accuracy, plain: dict[str, Any] | None) -> dict[str, Any] | None:
    if item.metric is None or plain is None:
        return None
    return {
        "name": plain["name"],
        "unit": plain["unit"],
        "value": plain["value"],
        "floatValue": plain["float_value"],
        "drop": plain["drop"],
        "dropInterval95": {"low": plain["drop_low"], "high": plain["drop_high"], "method": plain["interval"]},
        "samples": plain["samples"],
    }
