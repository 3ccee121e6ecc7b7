"""Validates bundles on new samples: the steps of `edgec validate` in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.backends.registry import package_version
from edgec.dataset.spool import Spool
from edgec.errors import WorkerError
from edgec.model.spec import Array
from edgec.project.spec import DataSpec
from edgec.storage.temporary import private_folder
from edgec.validate.drift import Observed, observe
from edgec.validate.quality import Judge, bundle_value, metric_of
from edgec.validate.records import Validation
from edgec.validate.runs import Ran, begun, reference_of, run_one
from edgec.validate.samples import Samples
from edgec.validate.sides import Side
from edgec.validate.suggest import choose, write_samples
from edgec.verify.outputs import Outputs
from edgec.workers.worker import Progress

WORST = 16
"""Samples of each artifact that are listed one by one."""


@dataclass(frozen=True)
class Options:
    """Options of a validation.

    Attributes:
        samples: use at most this many; None: all.
        metric: in place of the bundles' own.
        threads: CPU threads of each runtime.
        worst: samples to list of each artifact.
        suggest: file for samples that calibration lacks.
        suggested: how many these are, at most.
    """

    samples: int | None = None
    metric: str | None = None
    threads: int = 1
    worst: int = WORST
    suggest: Path | None = None
    suggested: int = 64


@dataclass(frozen=True)
class Validated:
    """The results, and the inputs of the samples that are listed one by one."""

    validation: Validation
    inputs: dict[int, dict[str, Array]]
    """By their place in the data."""
    suggested: int = 0
    """Samples that were written for calibration."""


Seen = Mapping[tuple[str, str], Observed]
"""By bundle and artifact."""


def validate(
    sides: Sequence[Side], data: DataSpec, options: Options, log: Path, progress: Progress = lambda step: None
) -> Validated:
    """Run every artifact of the bundles on the samples and judge them.

    Args:
        sides: of `edgec.validate.sides.read_sides`.
        data: the samples, relative to the current folder.
        options: of the validation.
        log: receives what runtimes print.
        progress: called with each step.

    Raises:
        WorkerError: no artifact runs.
        EdgecError: the data does not fit, a metric fails, or a file cannot be written.
    """
    with private_folder() as folder:
        progress(f"read samples of {data.data}")
        samples = Samples(data, options.samples, folder / "samples")
        for side in sides:
            samples.of(side)  # errors of the data are reported before any artifact runs
        ran = [
            run_one(
                side, runnable, samples.of(side), folder / f"outputs-{place}-{number}", log, options.threads, progress
            )
            for place, side in enumerate(sides)
            for number, runnable in enumerate(side.runnables)
        ]
        if not any(item.outputs for item in ran):
            failures = "; ".join(f"{item.side.name}/{item.runnable.artifact.file}: {item.failure}" for item in ran)
            raise WorkerError(
                f"no artifact could be run: {failures}", hint="install the runtimes: pip install 'edgec[all]'"
            )
        seen = _observed(sides, samples, folder, log, options, progress)
        validation = _results(ran, seen, samples, options)
        shown = {one.index for run in validation.runs for one in run.worst}
        suggested = _suggest(seen, sides[0], samples, options, folder)
        return Validated(validation, _inputs(shown, samples.of(sides[0])), suggested)


def _observed(
    sides: Sequence[Side], samples: Samples, folder: Path, log: Path, options: Options, progress: Progress
) -> Seen:
    seen: dict[tuple[str, str], Observed] = {}
    for side in sides:
        for runnable in {item.artifact.file: item for item in side.runnables if not item.is_twin}.values():
            scratch = folder / f"observed-{len(seen)}"
            scratch.mkdir()
            seen[side.name, runnable.artifact.file] = observe(
                side, runnable, samples.of(side), scratch, log, options.threads, progress
            )
    return seen


def _results(ran: Sequence[Ran], seen: Seen, samples: Samples, options: Options) -> Validation:
    spool = samples.of(ran[0].side)
    notes = [*spool.info.notes, *_known_data(ran, samples)]
    runs, references, metrics = [], list[str](), list[str]()
    for item in ran:
        reference = reference_of(item.side, ran)
        result = begun(item, reference)
        if item.failure or reference is None:
            runs.append(result)
            continue
        labels, group = samples.of(item.side).labels, spool.info.group
        metric, note = metric_of(item.side, item.outputs, labels, options.metric, group)
        comparable = _shapes(item.outputs) == _shapes(reference.ran.outputs)
        if not comparable:
            note = f"{result.name} is not compared: its outputs are not those of {reference.words}"
        notes += [note] if note else []
        references.append(reference.words)
        metrics.append(metric.name)
        judge = Judge(
            metric=metric,
            classes=item.side.classes,
            places=samples.places(item.side),
            indices=spool.source_indices(),
            reference=reference.ran.outputs if comparable else None,
            is_float=reference.is_float,
            most=options.worst,
            left=_layers_left(seen, item.side, spool),
        )
        value = bundle_value(item.side, result.artifact, result.runtime, metric.name)
        runs.append(judge.judge(result.model_copy(update={"bundle_value": value}), item.outputs))
    return Validation(
        edgec=package_version("edgec") or "unknown",
        data=samples.spec.data,
        samples=len(spool.source_indices()),
        labelled=spool.labels is not None,
        content_digest=spool.info.content_digest,
        metric=", ".join(dict.fromkeys(metrics)),
        reference="; ".join(dict.fromkeys(references)),
        notes=tuple(dict.fromkeys(notes)),
        runs=tuple(runs),
        drift=tuple(item.drift for item in seen.values()),
    )


def _layers_left(seen: Seen, side: Side, spool: Spool) -> dict[str, Array]:
    """By artifact, how many ranges each entry of the data leaves."""
    by_artifact = {}
    for (name, file), one in seen.items():
        left = one.layers_left(len(spool))
        if name == side.name and left is not None:
            by_artifact[file] = np.repeat(left, spool.info.group)
    return by_artifact


def _known_data(ran: Sequence[Ran], samples: Samples) -> list[str]:
    """Notes where the samples are those that a bundle was calibrated or judged with."""
    notes = []
    for side in {item.side.name: item.side for item in ran}.values():
        digest, manifest = samples.of(side).info.content_digest, side.manifest
        for what, known in (("judged on", manifest.evaluation), ("calibrated with", manifest.calibration)):
            if known is not None and known.content_digest == digest:
                notes.append(f"these are the same samples that {side.name} was {what}")
    return notes


def _shapes(outputs: Outputs) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in outputs.items()}


def _inputs(shown: set[int], spool: Spool) -> dict[int, dict[str, Array]]:
    """The model's inputs of some entries of the data."""
    group = spool.info.group
    places = {int(index): place for place, index in enumerate(spool.source_indices())}
    inputs = {}
    for index in sorted(shown):
        run, entry = divmod(places[index], group)
        sample = spool[run]
        inputs[index] = sample if group == 1 else {name: value[entry : entry + 1] for name, value in sample.items()}
    return inputs


def _suggest(seen: Seen, side: Side, samples: Samples, options: Options, folder: Path) -> int:
    if options.suggest is None:
        return 0
    chosen = choose(tuple(seen.values()), options.suggested)
    if chosen:
        scratch = folder / "suggested"
        scratch.mkdir()
        write_samples(options.suggest, chosen, samples.spec, side, samples.of(side), scratch)
    return len(chosen)
