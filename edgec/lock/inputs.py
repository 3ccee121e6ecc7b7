"""What a target is built from, by name, as ``edgec.lock`` keeps it; and how it differs from what was locked."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from edgec.backends.registry import package_version
from edgec.dataset.spool import Spool
from edgec.frozen import Frozen, canonical_json
from edgec.machine import host_isa
from edgec.model.spec import ModelSource
from edgec.plan.identity import package_versions
from edgec.plan.plan import Plan
from edgec.project.load import split_entry
from edgec.project.record import code_digests, digest_of, flat, recorded_beside, recorded_path, settings
from edgec.project.spec import Project

TRAINING = "training samples"
IMPORTED, METRIC_READS = "imported ", "metric reads "
"""What names of files begin with that are known only once the model is loaded, or the metric has run."""

_SETTING = "setting "
_ONLY_LOCKED = frozenset({"isa", "python", "threads"})
_RECORDED_ELSEWHERE = ("build.seed", "evaluation.metric", "gates.", "model.arguments", "train.")
"""Settings, or tables of them, that have names of their own here."""
_NOTHING = frozenset({"null", "[]"})

_DIGITS = 12
"""Of a digest, in messages."""
_NONE = "none"


def inputs_before(plan: Plan, root: Path, threads: int) -> dict[str, str]:
    """All that is known before the model is loaded and samples are read.

    Args:
        plan: what is built.
        root: the project's folder.
        threads: CPU threads of each toolchain process.
    """
    project = plan.project
    inputs = {
        "edgec": package_version("edgec") or "unknown",
        "gates": _stated(project.gates),
        "isa": host_isa().words(),
        "ladder": ", ".join(rung.name for rung in plan.emits[0].ladder),
        "metric": recorded_path(project.evaluation.metric) if project.evaluation else _NONE,
        "python": platform.python_version(),
        "seed": str(project.build.seed),
        "target": plan.target.digest(),
        "threads": str(threads),
    }
    inputs |= package_versions([item.backend for item in plan.emits])
    inputs |= {f"code {name}": digest for name, digest in code_digests(project, root).items()}
    inputs |= _settings(project)
    if project.train is not None:
        stated = project.train.model_dump(mode="json", exclude_defaults=True, exclude={"data"})
        inputs["training"] = canonical_json({key: settings(project)["train"][key] for key in stated})
    model = project.model
    entry = split_entry(model.path or "")
    inputs["model"] = _digest(root, entry[0] if entry else model.path or "")
    if entry:
        inputs["model entry"] = entry[1]
    if model.arguments:
        inputs["model arguments"] = canonical_json(model.arguments)
    if model.weights:
        inputs["weights"] = _digest(root, model.weights)
    return inputs


def inputs_loaded(source: ModelSource, data: Mapping[str, Spool | None]) -> dict[str, str]:
    """What is known besides once model and samples are loaded.

    Args:
        source: of the model.
        data: sets of samples by name.
    """
    names = recorded_beside(source.path, source.imported)
    imported = {f"{IMPORTED}{names[name]}": digest for name, digest in source.imported.items()}
    return imported | {name: spool.info.content_digest for name, spool in data.items() if spool is not None}


def differences(locked: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Name -> ``locked value -> present value`` of what differs, long digests cut short."""
    names = sorted({*locked, *present})
    absent = {name: "default" if name.startswith(_SETTING) else _NONE for name in names}
    return {
        name: f"{_short(locked.get(name, absent[name]))} -> {_short(present.get(name, absent[name]))}"
        for name in names
        if locked.get(name) != present.get(name)
    }


def is_only_locked(name: str) -> bool:
    """Whether a recipe that was chosen with another value of this is still followed.

    The bundle may have other bytes all the same, if only for the name of a file that its manifest records.
    """
    return name in _ONLY_LOCKED or name.startswith(_SETTING)


def _settings(project: Project) -> dict[str, str]:
    """What the manifest records of edgec.toml and flags, by key, where it is not the default."""
    defaults = dict(flat(settings(Project())))
    return {
        f"{_SETTING}{key}": value
        for key, value in flat(settings(project))
        if value not in _NOTHING
        and value != defaults.get(key)
        and (key == "train.data" or not key.startswith(_RECORDED_ELSEWHERE))
    }


def _stated(record: Frozen) -> str:
    return canonical_json(record.model_dump(mode="json", exclude_defaults=True))


def _digest(root: Path, name: str) -> str:
    return digest_of(root / name) or "missing"


def _short(value: str) -> str:
    return value[:_DIGITS] if len(value) == 64 and value.isalnum() else value
