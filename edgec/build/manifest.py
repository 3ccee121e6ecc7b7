"""What a finished build writes into its bundle's manifest."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path, PurePath

from edgec.backends.interface import Artifact
from edgec.backends.registry import package_version
from edgec.build.artifact import BuiltArtifact
from edgec.build.result import BuildResult
from edgec.build.twin import missing_twin
from edgec.bundle.bench.write import can_replay
from edgec.bundle.manifest import (
    ArtifactRecord,
    FloatTwin,
    Manifest,
    ProjectRecord,
    accuracy_of,
    pass_facts,
    without_times,
)
from edgec.bundle.write import digest_file
from edgec.check.build import coverage_of
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.machine import host_isa
from edgec.model.spec import ModelSource
from edgec.passes.coverage import Coverage
from edgec.plan.plan import Plan, record
from edgec.project.record import project_file_digest, recorded_beside, recorded_path, settings
from edgec.storage.files import compressed_size
from edgec.train.training_data import used_training_samples


def manifest_of(
    plan: Plan,
    result: BuildResult,
    folder: Path,
    root: Path,
    *,
    threads: int,
    twin: FloatTwin | None = None,
) -> Manifest:
    """The manifest of a build, without the digests of its files.

    Args:
        plan: what was built.
        result: what came of it.
        folder: where the artifacts are.
        root: the project's folder.
        threads: CPU threads of each toolchain process.
        twin: the float artifact that the bundle carries.
    """
    inputs = result.prepared.inputs
    source = _recorded_source(inputs.model.source)
    training = used_training_samples(plan, inputs.training, result.rungs)
    return Manifest(
        edgec=package_version("edgec") or "unknown",
        name=plan.project.publish.name or source.entry or PurePath(source.path).stem,
        version=plan.project.publish.version,
        target=plan.target,
        target_digest=plan.target.digest(),
        source=source,
        calibration=_recorded_data(inputs.calibration),
        evaluation=_recorded_data(inputs.evaluation),
        training=_recorded_data(training),
        project=ProjectRecord(
            sha256=project_file_digest(root),
            settings=settings(plan.project),
            code=dict(sorted((result.prepared.code or {}).items())),
            threads=threads,
        ),
        isa=host_isa(),
        plan=record(plan).model_dump(mode="json"),
        artifacts=tuple(_artifact(one, folder, plan) for one in result.built),
        coverage=_coverage(result, source) + missing_twin(plan, twin),
        gates=tuple(map(without_times, result.gates)),
        complete=not result.failures,
        accuracy=tuple(map(accuracy_of, result.measurements)),
        toolchain=_toolchain(plan, [one.artifact for one in result.built]),
        float_twin=twin,
    )


def _recorded_source(source: ModelSource) -> ModelSource:
    names = recorded_beside(source.path, source.imported)
    return source.model_copy(
        update={
            "path": PurePath(recorded_path(source.path)).as_posix(),
            "weights": recorded_path(source.weights) if source.weights else None,
            "imported": {names[name]: digest for name, digest in source.imported.items()},
        }
    )


def _recorded_data(spool: Spool | None) -> SpoolInfo | None:
    if spool is None:
        return None
    return spool.info.model_copy(update={"origin": recorded_path(spool.info.origin)})


def _coverage(result: BuildResult, source: ModelSource) -> tuple[Coverage, ...]:
    coverage = [item for one in result.built for item in one.artifact.coverage]
    coverage += [item for one in result.built for step in one.passes for item in step.coverage]
    coverage += [item for one in result.built for item in one.coverage]
    coverage += [
        Coverage(
            subject=one.artifact.file, state="not in bench/", reason=f"the harness runs no {one.artifact.format} files"
        )
        for one in result.built
        if not can_replay(one.artifact)
    ]
    coverage += [item.gap for item in result.failures]
    coverage += coverage_of(result.prepared.findings)
    coverage += [Coverage(subject=source.path, state="assumed", reason=note) for note in result.prepared.notes]
    return tuple(dict.fromkeys(coverage))


def _artifact(one: BuiltArtifact, folder: Path, plan: Plan) -> ArtifactRecord:
    file = digest_file(folder / one.artifact.file)
    return ArtifactRecord(
        artifact=one.artifact,
        sha256=file.sha256,
        size=file.size,
        compressed_size=compressed_size(folder / one.artifact.file) if plan.target.prune.sparsity else None,
        recipe=one.attempt.recipe,
        rungs=one.rungs,
        layers=one.layers,
        ranges=one.ranges,
        passes=tuple(pass_facts(step) for step in one.passes),
    )


def _toolchain(plan: Plan, artifacts: Sequence[Artifact]) -> dict[str, str]:
    made = {artifact.backend for artifact in artifacts}
    names = {
        package.distribution for item in plan.emits if item.backend.name in made for package in item.backend.packages
    }
    names |= {"torch", "numpy", *(["torch-pruning"] if plan.prune is not None else [])}
    versions = {name: package_version(name) or "unknown" for name in sorted(names)}
    return {"python": platform.python_version(), **versions}
