"""Which layers lose most when they are quantized: the straight line of `edgec analyze`.

Every measurement (one recipe of one artifact on the evaluation samples) is kept in the cache of the build folder. A run
that finds all of them there starts no process; one that was killed continues where it was.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from edgec.analyze.layers import Evaluation, LayerAnalyzer
from edgec.analyze.page import render_analysis
from edgec.analyze.records import Analysis, ArtifactAnalysis
from edgec.backends.registry import package_version
from edgec.build.inputs import Inputs, read_inputs, run_float
from edgec.build.metric import chosen_metric
from edgec.build.prepare import Prepared, transform
from edgec.dataset.entry import python_entry
from edgec.errors import EdgecError, ProjectError, TargetError
from edgec.events import subscriber_of
from edgec.ladder.maker import ArtifactMaker
from edgec.model.python_entry import imports_from
from edgec.plan.context import BuildContext, build_context
from edgec.plan.plan import PlannedEmit, make_plan, require_any_toolchain
from edgec.plan.rungs import first_recipe
from edgec.project.load import split_entry
from edgec.project.spec import Project
from edgec.storage.files import write_atomically
from edgec.storage.workspace import explained
from edgec.target.load import ResolvedTarget, load_target
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.workers.worker import Progress

SAMPLES = 256
"""Evaluation samples of each measurement, unless stated otherwise."""


@dataclass(frozen=True)
class Analyzed:
    """The result of `analyze_target`, and where it is written."""

    analysis: Analysis
    json: Path
    html: Path
    computed: int
    """Measurements of this run."""
    cached: int
    """Measurements of earlier runs."""
    failures: tuple[EdgecError, ...]
    """Of artifacts that could not be analyzed."""


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
        samples: evaluation samples of each measurement, at most.
        threads: CPU threads of each toolchain process.
        jobs: artifacts that are analyzed at once.
        progress: receives each step.

    Raises:
        TargetError: the target is not static int8, or there is no such target.
        EdgecError: any other of the tree; of artifacts that fail alone only when all do.
    """
    resolved = static_int8_target(name, root)
    plan = make_plan(resolved, _with_samples(project, samples))
    require_any_toolchain(plan)
    out = (root / project.build.out).absolute()
    workplace, subscriber = f"{name}.analysis", subscriber_of(progress)
    with (
        build_context(plan, root, workplace, threads=threads, jobs=jobs, subscriber=subscriber) as context,
        explained(context.log),
    ):
        prepared = _prepared(context)
        analyses = _artifacts(context, prepared)
        failures = tuple(error for _, error in analyses if error is not None)
        if len(failures) == len(analyses):
            raise failures[0]
        inputs = prepared.inputs
        analysis = Analysis(
            edgec=package_version("edgec") or "unknown",
            target=name,
            target_digest=plan.target.digest(),
            model=inputs.model.source.path,
            metric=prepared.metric.name,
            samples=len(inputs.evaluation),
            origin=inputs.evaluation.info.origin,
            artifacts=tuple(one for one, _ in analyses),
        )
        table, page = out / f"{name}.analysis.json", out / f"{name}.analysis.html"
        write_atomically(table, json.dumps(analysis.plain(), indent=1, ensure_ascii=False) + "\n")
        write_atomically(page, render_analysis(analysis))
    return Analyzed(analysis, table, page, computed=context.cache.stored, cached=context.cache.hits, failures=failures)


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


def _prepared(context: BuildContext) -> Prepared:
    """Model, data and metric; the float model is only run now where the metric is settled by its outputs."""
    inputs = read_inputs(context)
    passes, _ = transform(context, inputs)
    if inputs.metric.settled:
        return Prepared(inputs, {}, inputs.metric, passes)
    reference = run_float(context, inputs)
    metric, _ = chosen_metric(context.plan.project, inputs, reference)
    return Prepared(inputs, reference, metric, passes)


def _artifacts(context: BuildContext, prepared: Prepared) -> tuple[tuple[ArtifactAnalysis, EdgecError | None], ...]:
    """All artifacts of the plan, in its order, up to ``context.jobs`` at the same time."""
    inputs, metric = prepared.inputs, prepared.metric
    reference = _Reference(context, inputs, prepared.reference)
    evaluation = Evaluation(inputs.evaluation, reference, metric, _metric_digest(metric), RLock())
    analyzers = [_analyzer(context, prepared, item, evaluation) for item in context.plan.emits]
    recipe = first_recipe(context.plan.target)
    with ThreadPoolExecutor(max_workers=max(1, min(context.jobs, len(analyzers)))) as pool:
        futures = [pool.submit(item.analysis, recipe) for item in analyzers]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            for item in analyzers:
                item.stop()
            raise


class _Reference:
    """The float model's outputs, computed at the first call; from any thread."""

    def __init__(self, context: BuildContext, inputs: Inputs, known: Outputs) -> None:
        self._context, self._inputs, self._known = context, inputs, known
        self._lock = RLock()

    def __call__(self) -> Outputs:
        with self._lock:
            self._known = self._known or run_float(self._context, self._inputs)
            return self._known


def _analyzer(context: BuildContext, prepared: Prepared, item: PlannedEmit, evaluation: Evaluation) -> LayerAnalyzer:
    maker = ArtifactMaker(context, item, prepared.passes, prepared.inputs.calibration)
    return LayerAnalyzer(maker, evaluation, lambda step: context.progress(f"{item.file}: {step}"))


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
