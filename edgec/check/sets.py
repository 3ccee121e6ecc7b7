"""The sets of samples: whether they can be read, fit the model, have the labels they need, and share no samples."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgec.check import folders, small_sets
from edgec.check.model import guarded
from edgec.check.reading import Looked, look
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
class Set:
    """A set of samples and what was found in it."""

    what: Purpose
    spec: DataSpec
    inputs: tuple[TensorSpec, ...] = ()
    """What its samples were read as."""
    looked: Looked | None = None
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class How:
    """What reading a set takes."""

    root: Path
    """Folder that paths are relative to."""
    scratch: Path
    inputs: tuple[TensorSpec, ...]
    """Of the model; empty when these are not known: then the arrays of the set stand for them."""
    preprocess: Preprocess
    seed: int
    seconds: float
    """For each set."""


def look_at(spec: DataSpec, what: Purpose, samples: int | None, how: How) -> Set:
    """Read a set as far as time allows.

    Args:
        spec: the set in the user's words.
        what: which one it is.
        samples: how many a build would draw; None: all.
        how: what that takes.
    """
    found = Set(what, spec)
    scratch = how.scratch / what
    scratch.mkdir(parents=True)
    root = how.root
    path = how.root / spec.data
    told = spec
    if path.is_dir():
        files = folders.look_into(path, how.seconds / 2)
        found.findings += folders.of_files(files, spec.data)
        folder = folders.readable(files, scratch / "readable")
        if folder != path:
            told, root = spec.model_copy(update={"data": str(folder.resolve())}), Path()
    inputs, known = how.inputs, bool(how.inputs)
    if not known:
        inputs = stand_ins(spec, path)
        told = told.model_copy(update={"inputs": {}})
    found.inputs = inputs
    if inputs:
        found.looked = _read(told, root, inputs, samples, how, found, scratch)
    elif split_entry(spec.data) is None and not path.exists():
        _read(told, root, (TensorSpec(name="input", shape=(1, 1)),), samples, how, found, scratch)  # which tells it
    if found.looked is not None:
        found.findings += of_samples(found.looked, what, fits_known=known)
    return found


def _read(
    spec: DataSpec, root: Path, inputs: tuple[TensorSpec, ...], samples: int | None, how: How, found: Set, scratch: Path
) -> Looked | None:
    extracted = scratch / "extracted"
    extracted.mkdir(exist_ok=True)

    def read() -> Looked:
        with open_samples(spec, how.preprocess, inputs, root, extracted, seed=how.seed) as source:
            return look(
                source, inputs, how.preprocess, found.spec.data, samples=samples, seed=how.seed, seconds=how.seconds
            )

    looked = guarded(read, "data", found.findings, found.spec.data)
    if looked is None and spec.labels is not None:  # they may be what is wrong: the samples are looked at all the same
        again = spec.model_copy(update={"labels": None})
        return _read(again, root, inputs, samples, how, Set(found.what, found.spec), scratch)
    return looked


def stand_ins(spec: DataSpec, path: Path) -> tuple[TensorSpec, ...]:
    """Inputs that the arrays of a set would fit, for when those of the model are not known; none where it has none."""
    try:
        if path.suffix == ".npz":
            return _npz(spec, path)
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return (TensorSpec(name="input", shape=(1, *array.shape[1:])),)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return (TensorSpec(name="input", shape=(1, 1)),)  # reading it tells what is wrong
    return (TensorSpec(name="input", shape=(1, 3, 32, 32)),) if path.is_dir() else ()


def _npz(spec: DataSpec, path: Path) -> tuple[TensorSpec, ...]:
    found = []
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
                found.append(TensorSpec(name=name, shape=(1, *shape[1:])))
    return tuple(found)


def of_samples(looked: Looked, what: Purpose, *, fits_known: bool) -> Iterator[Finding]:
    """What is wrong with samples, and with how many there are.

    Args:
        looked: of a set.
        what: which one.
        fits_known: whether the model's inputs are known: else nothing can be said of dtypes and scaling.
    """
    if looked.count == 0:
        yield finding_of(DatasetError(f"the {what} data is empty", where=looked.origin), "data")
        return
    for failure in looked.failures.values():
        error = failure.error
        where = failure.place if failure.place.startswith(("/", ".")) else f"{looked.origin}: {failure.place}"
        more = f" (and {failure.count - 1} more of {looked.read} looked at)" if failure.count > 1 else ""
        if failure.drawn:
            yield finding_of(DatasetError(error.what + more, where=where, hint=error.hint), "data")
        else:
            unused = f"{error.what}{more}; with this seed and number of samples none such is drawn"
            yield warning("data", unused, where=where, hint=error.hint)
    if what == "calibration":
        if looked.used is not None:
            yield from small_sets.few_to_calibrate(looked.used, looked.origin)
        yield from small_sets.one_class(looked.used_labels, looked.origin, looked.classes)
        yield from small_sets.constants(
            looked.digests, looked.same, looked.extremes if fits_known else {}, looked.origin
        )
    elif what == "evaluation" and looked.used is not None:
        yield from small_sets.few_to_evaluate(looked.used, looked.origin)


def of_pair(one: Set, evaluation: Set) -> Iterator[Finding]:
    """Samples that a set shares with the evaluation data, and classes that the two number differently."""
    mine, theirs = one.looked, evaluation.looked
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
    told = ", ".join(f"{first} = {second}" for first, second in shared[:3]) + (", ..." if len(shared) > 3 else "")
    what = (
        f"{len(shared)} of {len(mine.digests)} {one.what} samples are also in the evaluation data "
        f"({one.what} index = evaluation index: {told})"
    )
    where = f"{mine.origin}, {theirs.origin}"
    if len(shared) > STRAY_SHARE * len(mine.digests):
        hint = "calibrate and train on training data, and evaluate on samples that were held out"
        yield finding_of(DataLeakError(what, where=where, hint=hint), "leak")
    else:
        yield warning("leak", f"{what}; they are left out of {one.what}", where=where)


def looked_at(sets: Sequence[Set]) -> str:
    """How many samples were looked at, of those sets that were not read to their end."""
    parts = [
        f"the first {item.looked.read} of {item.looked.count or 'the'} {item.what} samples"
        for item in sets
        if item.looked is not None and not item.looked.complete
    ]
    return f"only {' and '.join(parts)} were looked at" if parts else ""
