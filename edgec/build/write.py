"""Writing what a build has made as a bundle: artifacts, harness, float twin, manifest, measurements, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgec.build.artifact import BuiltArtifact
from edgec.build.manifest import manifest_of
from edgec.build.result import BuildResult
from edgec.build.twin import keep_twin
from edgec.bundle.bench.write import HarnessArtifact, can_replay, write_harness
from edgec.bundle.manifest import REPORT, Manifest, Measurements, PassTime
from edgec.bundle.write import settle, write_manifest, write_measurements
from edgec.dataset.spool import Spool
from edgec.ladder.verifier import outputs_folder
from edgec.plan.context import BuildContext
from edgec.report.html import render_report
from edgec.verify.records import GateResult

HARNESS_SAMPLES = 8
"""Evaluation samples that a bundle carries, for its harness to replay."""


def write_bundle(context: BuildContext, result: BuildResult, gates: tuple[GateResult, ...], folder: Path) -> Manifest:
    """Write a whole bundle into the staged `folder`.

    Args:
        context: of the build.
        result: with the artifacts that meet their gates.
        gates: of all artifacts.
        folder: empty.

    Raises:
        StorageError: the write is refused.
    """
    plan, measurements, evaluation = context.plan, result.measurements, result.prepared.inputs.evaluation
    times = tuple(
        PassTime(artifact=one.artifact.file, name=step.name, seconds=step.seconds)
        for one in result.built
        for step in one.passes
    )
    for one in result.built:
        one.file.rename(folder / one.artifact.file)
    if harness := [item for one in result.built if (item := _harness(one)) is not None]:
        write_harness(folder / "bench", plan.target, harness, _first_samples(evaluation))
    twin = keep_twin(plan, result, folder)
    manifest = manifest_of(plan, result, folder, context.root, threads=context.threads, twin=twin)
    manifest = write_manifest(folder, manifest)
    write_measurements(folder, Measurements(measurements=measurements, passes=times, gates=gates))
    shown = manifest.model_copy(update={"gates": result.gates})
    page = render_report(shown, measurements, times, evaluation[0])
    (folder / REPORT).write_text(page, encoding="utf-8")
    settle(folder)
    return manifest


def _first_samples(spool: Spool) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    samples = [spool[index] for index in range(min(HARNESS_SAMPLES, len(spool)))]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _harness(one: BuiltArtifact) -> HarnessArtifact | None:
    """What the harness replays: the outputs of the first runtime that the target's device has; None when it cannot."""
    runtimes = one.working_runtimes
    if not runtimes or not can_replay(one.artifact):
        return None
    folder = outputs_folder(one.attempt.folder, runtimes[0])
    expected = {
        binding.name: np.array(np.load(folder / f"{index}.npy", mmap_mode="r")[:HARNESS_SAMPLES])
        for index, binding in enumerate(one.artifact.outputs)
    }
    return HarnessArtifact(artifact=one.artifact, runtimes=runtimes, expected=expected)
