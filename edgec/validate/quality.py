"""Judges one artifact on the samples: its metric, and its distance from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.dataset.balance import class_labels
from edgec.model.spec import Array, TensorSpec
from edgec.project.load import split_entry
from edgec.validate.records import ClassResult, RunResult, SampleDifference, Share
from edgec.validate.samples import SEED
from edgec.validate.sides import Side
from edgec.verify.agreement import interval_of, predictions
from edgec.verify.fidelity import compare_outputs
from edgec.verify.metrics import Metric, choose_metric, correct
from edgec.verify.outputs import Outputs, by_entry, chunks, first_output
from edgec.verify.settle import settle
from edgec.verify.statistics import wilson


@dataclass(frozen=True)
class Judge:
    """Judges the outputs of one bundle's artifacts.

    Args:
        metric: settled, with the labels.
        classes: names of the classes, where they have some.
        places: name of each entry of the data.
        indices: index in the data of each entry.
        reference: outputs that they are compared with; None: there is no reference.
        is_float: whether these are the float model's.
        most: samples to list one by one.
        left: for each artifact's file, how many ranges each entry leaves; missing: not observed.
    """

    metric: Metric
    classes: tuple[str, ...]
    places: Sequence[str]
    indices: Array
    reference: Outputs | None
    is_float: bool
    most: int
    left: Mapping[str, Array]

    @property
    def scores(self) -> bool:
        """Whether the first output is one vector of class scores a sample."""
        return self.metric.name in ("top1", "agreement") and self.metric.unit == "class"

    def judge(self, run: RunResult, outputs: Outputs) -> RunResult:
        """`run` with the results of its outputs.

        Args:
            run: the record to complete.
            outputs: of the artifact.

        Raises:
            ProjectError: the user's metric fails.
        """
        value, interval = self._value(outputs)
        result = run.model_copy(update={"value": value, "interval": interval})
        if self.reference is None or run.role != "artifact":
            return result.model_copy(update={"classes": self._classes(outputs, None)})
        reference = {name: self.reference[name] for name in outputs}
        entries, wanted = by_entry(outputs, self.metric.group), by_entry(reference, self.metric.group)
        shares = self.metric.agreement(reference, outputs)
        paired = self.is_float and self.metric.name not in ("agreement", "sqnr")
        return result.model_copy(
            update={
                "paired": self.metric.compare(reference, outputs) if paired else None,
                "agreement": None if shares is None else _mean_of(shares),
                "fidelity": compare_outputs(reference, outputs),
                "classes": self._classes(outputs, reference),
                "worst": self._worst(run.artifact, entries, wanted),
            }
        )

    def _value(self, outputs: Outputs) -> tuple[float | None, Share | None]:
        metric = self.metric
        if metric.name in ("agreement", "sqnr"):
            return None, None
        absolute = metric.compare(outputs, outputs)
        if metric.name != "top1" or metric.labels is None:
            return absolute.value if absolute else None, None
        right = correct(by_entry(outputs, metric.group), metric.labels)
        interval = share(int(right.sum()), len(right))
        return 100 * interval.value, interval

    def _classes(self, outputs: Outputs, reference: Outputs | None) -> tuple[ClassResult, ...]:
        """Results by label; without labels by the reference's prediction."""
        if not self.scores:
            return ()
        group = self.metric.group
        given = _classes_of(by_entry(outputs, group))
        wanted = None if reference is None else _classes_of(by_entry(reference, group))
        labels = None if self.metric.name != "top1" or self.metric.labels is None else class_labels(self.metric.labels)
        by = labels if labels is not None else wanted
        if by is None:
            return ()
        classes = []
        for number in np.unique(by):
            inside = by == number
            right = None if labels is None else _percent(given[inside] == number)
            known = (
                None if labels is None or wanted is None or not self.is_float else _percent(wanted[inside] == number)
            )
            same = None if wanted is None else _percent(given[inside] == wanted[inside])
            label, count = self._label(int(number)), int(inside.sum())
            classes.append(ClassResult(label=label, samples=count, value=right, float_value=known, agreement=same))
        return tuple(classes)

    def _worst(self, artifact: str, outputs: Outputs, reference: Outputs) -> tuple[SampleDifference, ...]:
        decibel = sample_sqnr(reference, outputs)
        given, wanted = (_classes_of(outputs), _classes_of(reference)) if self.scores else (None, None)
        same = np.ones(len(decibel), bool) if given is None or wanted is None else given == wanted
        left = self.left.get(artifact)
        order = np.lexsort((decibel, same))[: self.most]
        return tuple(
            SampleDifference(
                index=int(self.indices[place]),
                place=self.places[place],
                label=self._label_of(place),
                predicted="" if given is None else self._label(int(given[place])),
                expected="" if wanted is None else self._label(int(wanted[place])),
                sqnr_db=float(decibel[place]),
                layers=None if left is None or left[place] < 0 else int(left[place]),
            )
            for place in map(int, order)
            if not (same[place] and np.isposinf(decibel[place]))
        )

    def _label_of(self, place: int) -> str:
        labels = None if self.metric.labels is None else class_labels(self.metric.labels)
        return "" if labels is None else self._label(int(labels[place]))

    def _label(self, number: int) -> str:
        return self.classes[number] if 0 <= number < len(self.classes) else str(number)


def _classes_of(outputs: Outputs) -> Array:
    """Class of each entry by the first output, one vector of scores an entry; shape (entries,)."""
    return predictions(first_output(outputs))[:, 0]


def metric_of(side: Side, outputs: Outputs, labels: Array | None, stated: str | None, group: int) -> tuple[Metric, str]:
    """The metric for one bundle's artifacts, and a note about it.

    It is the bundle's own where the new samples allow that. A Python entry is not in the bundle: unless it is stated
    again, `auto` replaces it.

    Args:
        side: the bundle.
        outputs: of an artifact.
        labels: of the new samples.
        stated: the user's choice; None: none.
        group: entries of the data in one run.

    Raises:
        LabelsError, ProjectError: the choice does not fit labels or outputs.
    """
    known = [item.metric.name for item in side.manifest.accuracy if item.metric is not None]
    own, note = known[0] if known else "sqnr", ""
    name = stated or own
    if stated is None and split_entry(own):
        name, note = "auto", f"the bundle does not contain its metric {own}: name it with --metric to have it measured"
    elif stated is None and own == "agreement" and labels is not None and class_labels(labels) is not None:
        name = "top1"
    elif stated is None and own == "top1" and labels is None:
        name = "agreement"
    if labels is not None and name in ("agreement", "sqnr"):
        note = note or f"labels are not used: the metric is {name}"
    specs = tuple(
        TensorSpec(name=item, shape=array.shape[1:], dtype=array.dtype.name)  # type: ignore[arg-type]  # choose_metric checks it
        for item, array in outputs.items()
    )
    metric = choose_metric(name, specs, labels, Path(), seed=SEED, group=group)
    return settle(metric, outputs, side.inputs)[0], note


def bundle_value(side: Side, artifact: str, runtime: str, metric: str) -> float | None:
    """The value of a metric in the bundle's manifest; None: it is not there.

    Args:
        side: the bundle.
        artifact: its file.
        runtime: name of it.
        metric: name of it.
    """
    for item in side.manifest.accuracy:
        if (item.artifact, item.runtime) == (artifact, runtime) and item.metric and item.metric.name == metric:
            return item.metric.value if metric != "agreement" else None
    return None


def sample_sqnr(reference: Outputs, outputs: Outputs) -> Array:
    """SQNR in dB of each sample's worst output; inf where all are equal, -inf where one is not a number."""
    worst = np.full(len(first_output(reference)), np.inf)
    for name, array in reference.items():
        for part in chunks(array):
            wanted = np.asarray(array[part], np.float64).reshape(len(array[part]), -1)
            got = np.asarray(outputs[name][part], np.float64).reshape(wanted.shape)
            with np.errstate(all="ignore"):
                noise = np.square(np.where(wanted == got, 0.0, wanted - got)).sum(axis=1)
                signal = np.square(np.where(np.isfinite(wanted), wanted, 0.0)).sum(axis=1)
                decibel = np.where(noise == 0, np.inf, 10 * (np.log10(signal) - np.log10(noise)))
            worst[part] = np.minimum(worst[part], np.where(np.isnan(decibel), -np.inf, decibel))
    return worst


def share(count: int, total: int) -> Share:
    """A share of samples with its interval; of none it is 0 of 1."""
    total = max(total, 1)
    interval = wilson(count, total)
    return Share(value=count / total, low=interval.low, high=interval.high)


def _mean_of(shares: Array) -> Share:
    """The mean over all entries with its interval."""
    value, interval = float(shares.mean()), interval_of(shares)
    low, high = (interval.low, interval.high) if interval else (value, value)
    return Share(value=value, low=low, high=high)


def _percent(right: Array) -> float:
    return 100 * float(np.mean(right))
