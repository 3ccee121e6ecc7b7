"""What differs between two bundles besides figures: coverage, recipes, inputs and toolchain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from edgec.bundle.manifest import ArtifactRecord, Manifest, ProjectRecord
from edgec.compare.side import Side
from edgec.dataset.spool import SpoolInfo
from edgec.frozen import Frozen
from edgec.project.load import split_entry
from edgec.project.record import flat
from edgec.quant.words import words

_DIGITS = 12
"""Digits of a digest that are shown."""
_NONE = "none"


class Gap(Frozen):
    """A deviation from its target that the newer bundle has and the older one has not."""

    place: str
    """Artifact, or artifact and runtime; empty when it concerns the bundle."""
    subject: str
    """Layer or op."""
    state: str
    reason: str


class Difference(Frozen):
    """One fact that differs."""

    what: str
    old: str
    new: str


def coverage_lost(old: Side, new: Side) -> tuple[Gap, ...]:
    """Layers and ops that became float, and all other new deviations from the target."""
    gaps = [gap for key, gap in _gaps(new.manifest).items() if key not in _gaps(old.manifest)]
    for place, item in new.places.items():
        if place not in old.places:
            continue
        before = Counter({(op.op, op.dtype): op.count for op in old.places[place].ops if op.reason})
        now = Counter({(op.op, op.dtype): op.count for op in item.ops if op.reason})
        why = {(op.op, op.dtype): op.reason for op in item.ops if op.reason}
        for (op, dtype), more in (now - before).items():
            gaps.append(_gap(" in ".join(place), f"{more} more {op}", dtype, why[op, dtype]))
    return tuple(gaps)


def recipe_changes(old: Side, new: Side) -> tuple[Difference, ...]:
    """Artifacts with another precision or another quantization recipe."""
    both = [file for file in old.artifacts if file in new.artifacts]
    before = {file: _recipe(old.artifacts[file], old.manifest) for file in both}
    return _differences(before, {file: _recipe(new.artifacts[file], new.manifest) for file in both})


def toolchain_changes(old: Side, new: Side) -> tuple[Difference, ...]:
    """Versions that differ."""
    return _differences(_versions(old.manifest), _versions(new.manifest))


def input_changes(old: Side, new: Side) -> tuple[Difference, ...]:
    """Model, data, target and gates that differ."""
    return _differences(_inputs(old.manifest), _inputs(new.manifest))


def other_data(old: Manifest, new: Manifest) -> str:
    """Why accuracy cannot be compared: the evaluation data differ, or code that the user's metric may use. Else empty.

    That code is all code of the project that bundles record, since a metric and a loss may share files.
    """
    before, now = _data(old.evaluation), _data(new.evaluation)
    if old.evaluation is None or new.evaluation is None:
        return "a bundle does not say what it was evaluated on"
    if before != now:
        return f"the evaluation data differ ({before}, now {now})"
    metrics = [_setting(item.project, "evaluation", "metric") or "" for item in (old, new)]
    if not any(map(split_entry, metrics)):
        return ""
    one, other = old.project.code, new.project.code
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return f"code that the metric may use differs ({', '.join(names)})" if names else ""


def other_model(old: Manifest, new: Manifest) -> str:
    """Why the float models may differ in speed: anything but the weights of a Python entry. Empty: they do not."""
    for key in ("arguments", "inputs"):
        if _setting(old.project, "model", key) != _setting(new.project, "model", key):
            return f"what [model] {key} says"
    elsewhere = {"path": "", "weights": None, "weights_sha256": None}
    if old.source.model_copy(update=elsewhere) != new.source.model_copy(update=elsewhere):
        return "the model"
    return "" if old.target.prune == new.target.prune else "what is pruned"


def _gaps(manifest: Manifest) -> dict[tuple[str, str, str], Gap]:
    """All deviations from the target, once each, by place, subject and state."""
    gaps: dict[tuple[str, str, str], Gap] = {}
    for record in manifest.artifacts:
        for gap in _gaps_of(record):
            gaps.setdefault((gap.place, gap.subject, gap.state), gap)
    recorded = {(gap.subject, gap.state) for gap in gaps.values()}
    for item in manifest.coverage:
        if (item.subject, item.state) not in recorded:
            gaps["", item.subject, item.state] = _gap("", item.subject, item.state, item.reason)
    return gaps


def _gaps_of(record: ArtifactRecord) -> Iterator[Gap]:
    file = record.artifact.file
    for item in (*record.artifact.coverage, *(gap for step in record.passes for gap in step.coverage)):
        yield _gap(file, item.subject, item.state, item.reason)
    for layer in record.recipe.float_layers:
        yield _gap(file, layer, "float32", "its recipe keeps it in float")


def _gap(place: str, subject: str, state: str, reason: str) -> Gap:
    return Gap(place=place, subject=subject, state=state, reason=reason)


def _recipe(record: ArtifactRecord, manifest: Manifest) -> str:
    precision = record.artifact.precision
    if precision in ("fp32", "fp16"):
        return precision
    return f"{precision}, {words(record.recipe, ranges=manifest.target.precision == 'int8')}"


def _versions(manifest: Manifest) -> dict[str, str]:
    runtimes = {f"{item.runtime} (runtime)": item.runtime_version for item in manifest.accuracy}
    return {"edgec": manifest.edgec, **manifest.toolchain, **runtimes}


def _inputs(manifest: Manifest) -> dict[str, str]:
    source = manifest.source
    return {
        f"model {source.path}": source.sha256[:_DIGITS],
        **{f"model {name}": digest[:_DIGITS] for name, digest in source.imported.items()},
        "weights": (source.weights_sha256 or _NONE)[:_DIGITS],
        "calibration data": _data(manifest.calibration),
        "evaluation data": _data(manifest.evaluation),
        "training data": _data(manifest.training),
        "instruction set": manifest.isa.words(),
        "threads": str(manifest.project.threads),
        **{f"code {name}": digest[:_DIGITS] for name, digest in manifest.project.code.items()},
        **{f"setting {name}": value for name, value in _settings(manifest.project)},
        "target": f"{manifest.target.name} {manifest.target_digest[:_DIGITS]}",
        **{f"gate {gate.gate}": f"{gate.limit:g}" for gate in manifest.gates},
    }


def _setting(project: ProjectRecord, table: str, key: str) -> Any:
    return (project.settings.get(table) or {}).get(key)


def _settings(project: ProjectRecord) -> Iterator[tuple[str, str]]:
    """Settings by dotted name, as JSON; but gates, which are listed as they were judged."""
    return flat({name: value for name, value in project.settings.items() if name != "gates"})


def _data(info: SpoolInfo | None) -> str:
    return _NONE if info is None else f"{info.samples} samples, {info.content_digest[:_DIGITS]}"


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Difference, ...]:
    return tuple(
        Difference(what=name, old=old.get(name, _NONE), new=new.get(name, _NONE))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )
