"""Checks of the sets of samples: readable, fit for the model, labelled where needed, and without shared samples."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgec.check import folders, small_sets
from edgec.check.model import guarded
from edgec.check.reading import SetSurvey, survey_set
from edgec.check.records import Finding, finding_of, warning
from edgec.dataset.leak import STRAY_SHARE
from edgec.dataset.open_samples import open_samples
from edgec.dataset.write import Purpose
from edgec.errors import DataLeakError, DatasetError, LabelsError
from edgec.model.spec import TensorSpec
from edgec.project.load import split_entry
from edgec.project.spec import DataSpec, Preprocess

LABEL_ARRAYS = frozenset({"y", "labels"})


@dataclass
class SampleSet:
    """A set of samples with its findings."""

    what: Purpose
    spec: DataSpec
    inputs: tuple[TensorSpec, ...] = ()
    """The inputs that its samples were converted to."""
    survey: SetSurvey | None = None
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class ReadSettings:
    """Settings for reading sets."""

    root: Path
    """Folder that paths are relative to."""
    scratch: Path
    inputs: tuple[TensorSpec, ...]
    """Of the model; empty when they are not known: then the arrays of the set replace them."""
    preprocess: Preprocess
    seed: int
    seconds: float
    """For each set."""


def read_set(spec: DataSpec, what: Purpose, samples: int | None, settings: ReadSettings) -> SampleSet:
    """Read a set as far as time allows.

    Args:
        spec: the set in the user's words.
        what: which one it is.
        samples: how many a build would draw; None: all.
        settings: for all sets.
    """
    result = SampleSet(what, spec)
    scratch = settings.scratch / what
    scratch.mkdir(parents=True)
    root = settings.root
    path = settings.root / spec.data
    source = spec
    if path.is_dir():
        files = folders.list_files(path, settings.seconds / 2)
        result.findings += folders.of_files(files, spec.data)
        folder = folders.readable(files, scratch / "readable")
        if folder != path:
            source, root = spec.model_copy(update={"data": str(folder.resolve())}), Path()
    result.inputs = settings.inputs
    if not settings.inputs:
        result.inputs = stand_ins(spec, path)
        source = source.model_copy(update={"inputs": {}})
    missing = not path.exists() and split_entry(spec.data) is None  # which reading it reports
    if inputs := result.inputs or ((TensorSpec(name="input", shape=(1, 1)),) if missing else ()):
        result.survey = _read(source, root, inputs, samples, settings, result)
    if result.survey is not None:
        result.findings += of_samples(result.survey, what, fits_known=bool(settings.inputs))
    return result


def _read(
    spec: DataSpec,
    root: Path,
    inputs: tuple[TensorSpec, ...],
    samples: int | None,
    settings: ReadSettings,
    result: SampleSet,
) -> SetSurvey | None:
    extracted = settings.scratch / result.what / "extracted"
    extracted.mkdir(exist_ok=True)
    preprocess, seed, origin = settings.preprocess, settings.seed, result.spec.data

    def read() -> SetSurvey:
        with open_samples(spec, preprocess, inputs, root, extracted, seed=seed) as source:
            return survey_set(source, inputs, preprocess, origin, samples=samples, seed=seed, seconds=settings.seconds)

    survey = guarded(read, "data", result.findings, origin)
    if survey is None and spec.labels is not None:  # the labels may be wrong: check the samples without them
        again = spec.model_copy(update={"labels": None})
        return _read(again, root, inputs, samples, settings, SampleSet(result.what, result.spec))
    return survey


def stand_ins(spec: DataSpec, path: Path) -> tuple[TensorSpec, ...]:
    """Inputs that fit the arrays of a set, for a model whose inputs are not known; empty: the set has no arrays."""
    try:
        if path.suffix == ".npz":
            return _npz(spec, path)
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return (TensorSpec(name="input", shape=(1, *array.shape[1:])),)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return (TensorSpec(name="input", shape=(1, 1)),)  # reading it reports the error
    return (TensorSpec(name="input", shape=(1, 3, 32, 32)),) if path.is_dir() else ()


def _npz(spec: DataSpec, path: Path) -> tuple[TensorSpec, ...]:
    inputs = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if name == member or name in LABEL_ARRAYS or name == spec.labels:
                continue
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)  # type: ignore[no-untyped-call]
            if shape and dtype.kind == "f":
                inputs.append(TensorSpec(name=name, shape=(1, *shape[1:])))
    return tuple(inputs)


def of_samples(survey: SetSurvey, what: Purpose, *, fits_known: bool) -> Iterator[Finding]:
    """Findings about samples and their number.

    Args:
        survey: of the set.
        what: which set it is.
        fits_known: whether the model's inputs are known; dtypes and scaling are checked only then.
    """
    if survey.count == 0:
        yield finding_of(DatasetError(f"the {what} data is empty", where=survey.origin), "data")
        return
    for failure in survey.failures.values():
        error = failure.error
        where = failure.place if failure.place.startswith(("/", ".")) else f"{survey.origin}: {failure.place}"
        more = f" (and {failure.count - 1} more of {survey.read} read)" if failure.count > 1 else ""
        if failure.drawn:
            yield finding_of(DatasetError(error.what + more, where=where, hint=error.hint), "data")
        else:
            unused = f"{error.what}{more}; this seed and number of samples draw no such sample"
            yield warning("data", unused, where=where, hint=error.hint)
    if what == "calibration":
        if survey.used is not None:
            yield from small_sets.few_to_calibrate(survey.used, survey.origin)
        yield from small_sets.one_class(survey.used_labels, survey.origin, survey.classes)
        yield from small_sets.constants(
            survey.digests, survey.same, survey.extremes if fits_known else {}, survey.origin
        )
    elif what == "evaluation" and survey.used is not None:
        yield from small_sets.few_to_evaluate(survey.used, survey.origin)


def of_pair(one: SampleSet, evaluation: SampleSet) -> Iterator[Finding]:
    """Samples that a set shares with the evaluation data, and classes that the two number differently."""
    mine, theirs = one.survey, evaluation.survey
    if mine is None or theirs is None:
        return
    if mine.classes and theirs.classes and mine.classes != theirs.classes:
        odd = ", ".join(sorted(set(mine.classes) ^ set(theirs.classes)))
        error = LabelsError(
            f"the classes differ from those of {mine.origin}, and so do their numbers: {odd}",
            where=theirs.origin,
            hint="labels are the places of class folders in sorted order: give both sets the same folders "
            "(one may be empty), or state labels",
        )
        yield finding_of(error, "labels")
    held_out = dict(zip(reversed(theirs.digests), reversed(theirs.places), strict=True))
    shared = [
        (place, held_out[item]) for place, item in zip(mine.places, mine.digests, strict=True) if item in held_out
    ]
    if not shared:
        return
    pairs = ", ".join(f"{first} = {second}" for first, second in shared[:3]) + (", ..." if len(shared) > 3 else "")
    what = (
        f"{len(shared)} of {len(mine.digests)} {one.what} samples are also in the evaluation data "
        f"({one.what} index = evaluation index: {pairs})"
    )
    where = f"{mine.origin}, {theirs.origin}"
    if len(shared) > STRAY_SHARE * len(mine.digests):
        hint = "calibrate and train on training data, and evaluate on samples that were held out"
        yield finding_of(DataLeakError(what, where=where, hint=hint), "leak")
    else:
        yield warning("leak", f"{what}; they are left out of {one.what}", where=where)


def partly_read(sets: Sequence[SampleSet]) -> str:
    """How many samples of partly read sets were read; empty: all sets were read to their end."""
    parts = [
        f"the first {item.survey.read} of {item.survey.count or 'the'} {item.what} samples"
        for item in sets
        if item.survey is not None and not item.survey.complete
    ]
    return f"only {' and '.join(parts)} were read" if parts else ""
