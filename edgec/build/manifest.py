"""What a finished build writes into its bundle's manifest."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path, PurePath

from edgec.backends.interface import Artifact
from edgec.backends.registry import package_version
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
from edgec.build.artifact import BuiltArtifact
from edgec.build.job import BuildData
from edgec.build.run import BuildResult
from edgec.build.twin import untold_twin
from edgec.storage.files import compressed_size
from edgec.machine import host_isa
from edgec.model.spec import ModelSource
from edgec.passes.contract import Coverage
from edgec.plan.plan import Plan, record
from edgec.project.record import project_file_digest, settings, told_beside, told_path
from edgec.verify.records import RungRecord


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
    data = result.data
    source = _told_source(data.model.source)
    rungs = [rung for one in result.built for rung in one.rungs]
    training = training_samples(plan, data, rungs)
    return Manifest(
        edgec=package_version("edgec") or "unknown",
        target=plan.target,
        target_digest=plan.target.digest(),
        source=source,
        calibration=_told_data(data.calibration),
        evaluation=_told_data(data.evaluation),
        training=_told_data(training),
        project=ProjectRecord(
            sha256=project_file_digest(root),
            settings=settings(plan.project),
            code=dict(sorted(result.code.items())),
            threads=threads,
        ),
        isa=host_isa(),
        plan=record(plan).model_dump(mode="json"),
        artifacts=tuple(_artifact(one, folder, plan) for one in result.built),
        coverage=_coverage(result, source) + untold_twin(plan, twin),
        gates=tuple(map(without_times, result.gates)),
        complete=not result.failures,
        accuracy=tuple(accuracy_of(item) for one in result.built for item in one.measurements),
        toolchain=_toolchain(plan, [one.artifact for one in result.built]),
        float_twin=twin,
    )


def training_samples(plan: Plan, data: BuildData, rungs: Sequence[RungRecord]) -> Spool | None:
    """Training samples, where pruning or a rung of the ladder used them; they are read when they were not yet.

    Raises:
        DatasetError: they cannot be read.
    """
    trained = any(rung.rung == "training" and rung.recipe is not None for rung in rungs)
    if data.training is None or not (trained or plan.prune is not None):
        return None
    return data.training.read()


def _told_source(source: ModelSource) -> ModelSource:
    told = told_beside(source.path, source.imported)
    return source.model_copy(
        update={
            "path": PurePath(told_path(source.path)).as_posix(),
            "weights": told_path(source.weights) if source.weights else None,
            "imported": {told[name]: digest for name, digest in source.imported.items()},
        }
    )


def _told_data(spool: Spool | None) -> SpoolInfo | None:
    if spool is None:
        return None
    return spool.info.model_copy(update={"origin": told_path(spool.info.origin)})


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
    coverage += coverage_of(result.data.findings)
    coverage += [Coverage(subject=source.path, state="assumed", reason=note) for note in result.data.notes]
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
