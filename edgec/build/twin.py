"""The float32 twin that a bundle carries on request: what its artifacts are compared with on new samples."""

from __future__ import annotations

from pathlib import Path

from edgec.bundle.manifest import FloatTwin
from edgec.build.run import BuildResult
from edgec.passes.coverage import Coverage
from edgec.plan.plan import Plan

FOLDER = "float"
"""Of the twin in its bundle."""


def keep_twin(plan: Plan, result: BuildResult, folder: Path) -> FloatTwin | None:
    """Move the twin of the first artifact that has one into a bundle's folder, where the project asks for it."""
    if not plan.project.bundle.float_twin:
        return None
    for one in result.built:
        worked = [item.runtime for item in one.measurements if item.judged and not item.failure]
        if one.twin is None or not worked:
            continue
        artifact, place = one.twin
        kept = f"{FOLDER}/{artifact.file}"
        (folder / FOLDER).mkdir()
        (place / artifact.file).rename(folder / kept)
        return FloatTwin(artifact=artifact.model_copy(update={"file": kept}), runtime=worked[0])
    return None


def untold_twin(plan: Plan, twin: FloatTwin | None) -> tuple[Coverage, ...]:
    """That the bundle has no twin though the project asks for one, and why."""
    if twin is not None or not plan.project.bundle.float_twin:
        return ()
    reason = "none of its artifacts could be made in float32"
    if plan.target.precision == "fp32":
        reason = "its artifacts are float32 themselves"
    return (Coverage(subject="float twin", state="not kept", reason=reason),)
