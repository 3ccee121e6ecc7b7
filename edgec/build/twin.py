"""The float32 twin that a bundle carries on request: what its artifacts are compared with on new samples."""

from __future__ import annotations

from pathlib import Path

from edgec.build.result import BuildResult
from edgec.bundle.manifest import FloatTwin
from edgec.passes.coverage import Coverage
from edgec.plan.plan import Plan

FOLDER = "float"
"""Of the twin in its bundle."""


def keep_twin(plan: Plan, result: BuildResult, folder: Path) -> FloatTwin | None:
    """Move the twin of the first artifact that has one into a bundle's folder, where the project asks for it."""
    if not plan.project.bundle.float_twin:
        return None
    for one in result.built:
        if one.twin is None or not one.working_runtimes:
            continue
        kept = f"{FOLDER}/{one.twin.artifact.file}"
        (folder / FOLDER).mkdir()
        one.twin.file.rename(folder / kept)
        artifact = one.twin.artifact.model_copy(update={"file": kept})
        return FloatTwin(artifact=artifact, runtime=one.working_runtimes[0])
    return None


def missing_twin(plan: Plan, twin: FloatTwin | None) -> tuple[Coverage, ...]:
    """Why the bundle has no twin, where the project asks for one."""
    if twin is not None or not plan.project.bundle.float_twin:
        return ()
    reason = "none of its artifacts could be made in float32"
    if plan.target.precision == "fp32":
        reason = "its artifacts are float32 themselves"
    return (Coverage(subject="float twin", state="not kept", reason=reason),)
