"""Which layers lose most when they are quantized: the straight line of `edgec analyze`.

Every cell (one recipe of one artifact on the evaluation samples) is kept in the cache of the build folder. A run that
finds all of them there starts no process; a killed one goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from edgec.analyze.layer_cells import LayerCells, Yardstick
from edgec.analyze.page import render_analysis
from edgec.analyze.records import Analysis, ArtifactAnalysis
from edgec.backends.registry import package_version
from edgec.build.job import BuildData, Job, Judged
from edgec.build.prepare import prepare
from edgec.build.settle_metric import settle_metric
from edgec.dataset.entry import python_entry
from edgec.errors import EdgecError, ProjectError, TargetError
from edgec.ladder.trial import Trial
from edgec.machine import host_machine
from edgec.model.python_entry import imports_from
from edgec.plan.plan import PlannedEmit, make_plan, require_any_toolchain
from edgec.plan.rungs import first_recipe
from edgec.project.load import split_entry
from edgec.project.spec import Project
from edgec.storage.cache import Cache
from edgec.storage.files import write_atomically
from edgec.storage.workspace import cache_folder, explained, model_step, workspace
from edgec.target.load import ResolvedTarget, load_target
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.verify.reference import float_outputs
from edgec.workers.log import captured
from edgec.workers.worker import Progress

SAMPLES = 256
"""Evaluation samples of each cell, unless told otherwise."""


@dataclass(frozen=True)
class Analyzed:
    """What `analyze_target` found, and where it wrote it."""

    analysis: Analysis
    json: Path
    html: Path
    computed: int
    """Cells that this run measured."""
    cached: int
    """Cells that earlier runs had measured."""
    failures: tuple[EdgecError, ...]
    """Artifacts that nothing could be found out about."""


def analyze_target(
    name: str,
    project: Project,
    root: Path,
    *,
    samples: int = SAMPLES,
    threads: int = 1,
    jobs: int = 1,
    progress: Progress = lambda step: None,
) -> Analyzed:
    """Quantize each layer alone, and all layers but one, for each artifact of a static int8 target.

    Args:
        name: of the target.
        project: the user's model and data, with paths relative to `root`.
        root: the project's folder.
        samples: evaluation samples that each cell is measured on, at most.
        threads: CPU threads of each toolchain process.
        jobs: artifacts that are analyzed at once.
        progress: told each step.

    Raises:
        TargetError: the target is not static int8, or there is no such target.
        EdgecError: any other of the tree; of artifacts that fail alone only when all do.
    """
    resolved = static_int8_target(name, root)
    plan = make_plan(resolved, _with_samples(project, samples))
    require_any_toolchain(plan)
    out = (root / project.build.out).absolute()
    cache = Cache(cache_folder(out))
    with workspace(out, f"{name}.analysis") as (scratch, log), explained(log):
        job = Job(plan, root, scratch, log, threads, jobs, progress, cache=cache)
        judged = _judged(job)
        found = _artifacts(job, judged)
        failures = tuple(error for _, error in found if error is not None)
        if len(failures) == len(found):
            raise failures[0]
        data = judged.data
        analysis = Analysis(
            edgec=package_version("edgec") or "unknown",
            target=name,
            target_digest=plan.target.digest(),
            model=data.model.source.path,
            metric=judged.metric.name,
            samples=len(data.evaluation),
            origin=data.evaluation.info.origin,
            artifacts=tuple(one for one, _ in found),
        )
        table, page = out / f"{name}.analysis.json", out / f"{name}.analysis.html"
        write_atomically(table, json.dumps(analysis.plain(), indent=1, ensure_ascii=False) + "\n")
        write_atomically(page, render_analysis(analysis))
    return Analyzed(analysis, table, page, computed=cache.stored, cached=cache.found, failures=failures)


def static_int8_target(name: str, root: Path) -> ResolvedTarget:
    """The target called `name`, which must be one that has layers to analyze.

    Raises:
        TargetError: it is not static int8, or there is no such target.
    """
    resolved = load_target(name, root)
    if resolved.target.precision != "int8":
        raise TargetError(
            f"{name} is {resolved.target.precision}: only static int8 has layers to quantize one by one",
            where=resolved.origin("precision"),
            hint='analyze a target of precision "int8"; `edgec targets` lists them',
        )
    return resolved


def _with_samples(project: Project, samples: int) -> Project:
    if project.evaluation is None:
        return project  # make_plan says what is missing
    stated = project.evaluation.samples
    evaluation = project.evaluation.model_copy(update={"samples": min(samples, stated or samples)})
    return project.model_copy(update={"evaluation": evaluation})


def _judged(job: Job) -> Judged:
    """Model, data and metric; the float model's outputs only where the metric is settled by them."""
    prepared = prepare(job)
    metric = prepared.metric
    reference: Outputs = {}
    if not metric.settled:
        reference = _float_outputs(job, prepared.data)
        metric, _ = settle_metric(job.plan.project, prepared.data, metric, reference)
    return Judged(prepared.data, reference, metric, host_machine(), prepared.portable)


def _float_outputs(job: Job, data: BuildData) -> Outputs:
    job.progress(f"run the float model on {len(data.evaluation)} samples")
    with captured(job.log), model_step("run", str(job.plan.project.model.path)):
        return float_outputs(data.model, data.evaluation, job.scratch / "float", job.threads)


def _artifacts(job: Job, judged: Judged) -> tuple[tuple[ArtifactAnalysis, EdgecError | None], ...]:
    """All artifacts of the plan, in its order, up to ``job.jobs`` at once."""
    lock = RLock()
    known = [judged.reference] if judged.reference else []

    def reference() -> Outputs:
        with lock:
            if not known:
                known.append(_float_outputs(job, judged.data))
            return known[0]

    metric = judged.metric
    yardstick = Yardstick(judged.data.evaluation, reference, metric, _metric_digest(metric), lock)
    items = [_cells_of(job, judged, item, yardstick) for item in job.plan.emits]
    recipe = first_recipe(job.plan.target)
    with ThreadPoolExecutor(max_workers=max(1, min(job.jobs, len(items)))) as pool:
        futures = [pool.submit(item.analysis, recipe) for item in items]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            for item in items:
                item.stop()
            raise


def _cells_of(job: Job, judged: Judged, item: PlannedEmit, yardstick: Yardstick) -> LayerCells:
    def never(*_: object) -> Any:
        raise AssertionError("an analysis neither trains nor judges")

    cells = job.cells(judged, item)
    assert cells is not None  # analyze_target gives the job a cache
    trial = Trial(
        target=job.plan.target,
        item=item,
        model=job.scratch / "model",
        trained=never,
        scoring=None,
        scratch=job.scratch / f"emit-{item.index}",
        calibration=judged.data.calibration,
        seed=job.plan.project.build.seed,
        threads=job.threads,
        log=job.log,
        progress=lambda step: None,
        verify=never,
        differ=never,
        judge=never,
        cells=cells,
    )
    return LayerCells(trial, cells, yardstick, lambda step: job.progress(f"{item.file}: {step}"))


def _metric_digest(metric: Metric) -> str:
    """SHA-256 (hex) of what a metric computes: its name, and for a Python entry the sources that it may import."""
    digest = hashlib.sha256(f"{metric.name} {metric.unit} {metric.seed}".encode())
    parts = split_entry(metric.name)
    if parts is None:
        return digest.hexdigest()
    path = (metric.root / parts[0]).resolve()
    with imports_from(path.parent) as imported, python_entry(metric.name, metric.root, ProjectError, seed=metric.seed):
        files = {*imported(), *path.parent.glob("*.py")}  # siblings may be imported later, when it is called
    for file in sorted(files):
        digest.update(f"{file.relative_to(path.parent)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
