"""The user's metric: top-1, agreement with the float model, SQNR, or a Python entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.dataset.balance import class_labels
from edgec.dataset.entry import entry_errors, python_entry
from edgec.errors import DatasetError, LabelsError, ProjectError
from edgec.model.spec import Array, TensorSpec
from edgec.project.load import split_entry
from edgec.toml_source import suggest
from edgec.verify.agreement import Unit, equal_shares, interval_of, predictions, unit_of
from edgec.verify.outputs import Outputs, by_entry, first_output
from edgec.verify.records import MetricResult
from edgec.verify.statistics import Interval, paired_means, paired_proportions

NAMES = ("auto", "top1", "agreement", "sqnr")

Scores = Array
"""One score a sample, shape (N,); or a scalar, shape (), for metrics that are not per sample. Higher is better."""


@dataclass(frozen=True)
class Metric:
    """A metric whose labels fit; `auto` is decided by `edgec.verify.settle`, when the float model has been run."""

    name: str
    """``top1``, ``agreement``, ``sqnr``, or the Python entry; ``auto`` until it is settled."""
    labels: Array | None
    root: Path
    """Folder that a Python entry is relative to."""
    seed: int = 0
    """Of a Python entry's random numbers."""
    group: int = 1
    """Entries of the data that the model takes at once, see `edgec.dataset.group`."""
    unit: Unit = ""
    """What of the first output can agree with the float model's; empty: nothing that would say anything."""

    @property
    def settled(self) -> bool:
        """Whether `settle` changes nothing: top-1 and agreement are what they are."""
        return self.name in ("agreement", "top1")

    def agreement(self, reference: Outputs, outputs: Outputs) -> Array | None:
        """Share of each sample's first output that is the float model's, shape (samples,); None without a `unit`."""
        if not self.unit:
            return None
        wanted, got = (first_output(by_entry(item, self.group)) for item in (reference, outputs))
        return equal_shares(wanted, got, self.unit)

    def compare(self, reference: Outputs, outputs: Outputs) -> MetricResult | None:
        """The metric of an artifact's outputs against that of the float model's; None for ``sqnr``.

        Raises:
            ProjectError: the Python entry fails, or returns something else than finite scores.
        """
        if self.name == "sqnr":
            return None
        if self.name == "agreement" and (shares := self.agreement(reference, outputs)) is not None:
            return _agreement(shares)
        reference, outputs = by_entry(reference, self.group), by_entry(outputs, self.group)
        if self.name == "top1" and self.labels is not None:
            return _compare("top1", correct(reference, self.labels), correct(outputs, self.labels))
        with python_entry(self.name, self.root, ProjectError, seed=self.seed) as function:
            return _compare(self.name, self._scores(function, reference), self._scores(function, outputs))

    def _scores(self, function: Callable[..., object], outputs: Outputs) -> Scores:
        with entry_errors(ProjectError, self.name.rpartition(":")[0]):
            scores = np.asarray(function(_without_batch_axis(outputs), self.labels))
        samples = len(first_output(outputs))
        if scores.dtype.kind not in "biuf" or scores.shape not in ((), (samples,)) or not np.isfinite(scores).all():
            raise ProjectError(
                f"the metric returned {scores.dtype} of shape {list(scores.shape)}",
                where=self.name,
                hint=f"return one finite score a sample (shape [{samples}]) or one number; higher is better",
            )
        return scores.astype(np.float64)


def choose_metric(
    name: str, outputs: tuple[TensorSpec, ...], labels: Array | None, root: Path, *, seed: int = 0, group: int = 1
) -> Metric:
    """Settle which metric to use, as far as it is known before the float model has run.

    ``auto`` is top-1 when there are class labels and the first output looks like class scores; else
    `edgec.verify.settle` decides.

    Args:
        name: the user's choice.
        outputs: the float model's outputs.
        labels: of the evaluation set.
        root: folder that a Python entry is relative to.
        seed: of a Python entry's random numbers.
        group: entries of the data that the model takes at once.

    Raises:
        LabelsError: top-1 is asked for without labels, or they do not fit the output.
        ProjectError: there is no such metric.
        DatasetError: the data is of single entries, and the outputs are not one for each.
    """
    outputs = tuple(_of_entry(item, group) for item in outputs)
    classes, unit = class_count(outputs[0].shape, outputs[0].dtype), unit_of(outputs[0].shape, outputs[0].dtype)
    if name == "auto" and labels is not None and classes:
        name = "top1"
    if name == "top1":
        _check_labels(outputs[0], classes, labels)
    elif name == "agreement" and not unit:
        raise ProjectError(
            f'metric "agreement" needs class scores, but output "{outputs[0].name}" has shape {list(outputs[0].shape)}',
            where="[evaluation] metric",
            hint='metric = "sqnr", or a Python entry file.py:function',
        )
    elif split_entry(name):
        with python_entry(name, root, ProjectError, seed=seed):
            pass  # a missing function should be known before anything is built
    elif name not in NAMES:
        raise ProjectError(
            f'no metric is called "{name}"',
            where="[evaluation] metric",
            hint=suggest(name, NAMES) or f"metrics: {', '.join(NAMES)}, or a Python entry file.py:function",
        )
    return Metric(name, labels, root, seed, group, unit)


def _of_entry(output: TensorSpec, group: int) -> TensorSpec:
    """What of `output` belongs to one of `group` entries."""
    if group == 1:
        return output
    if output.shape[:1] != (group,):
        raise DatasetError(
            f'output "{output.name}" of shape {list(output.shape)} is not one for each of the {group} samples of a run',
            hint=f"give the data in entries of the model's full input shape, {group} samples each",
        )
    return output.model_copy(update={"shape": (1, *output.shape[1:])})


def class_count(shape: tuple[int, ...], dtype: str) -> int:
    """Number of classes when an output of one sample is one float score for each of at least two, else 0."""
    one_vector = bool(shape) and all(size == 1 for size in shape[:-1])
    return shape[-1] if dtype.startswith("float") and one_vector and shape[-1] >= 2 else 0


def _check_labels(output: TensorSpec, classes: int, labels: Array | None) -> None:
    where = "[evaluation] metric top1"
    if labels is None:
        raise LabelsError(
            "the evaluation data has no labels",
            where=where,
            hint='state [evaluation] labels, or metric = "agreement" to compare with the float model only',
        )
    if not classes:
        raise LabelsError(
            f'output "{output.name}" of shape {list(output.shape)} is not one score for each of several classes',
            where=where,
            hint="measure it with a Python entry: metric = file.py:function",
        )
    flat = class_labels(labels)
    if flat is None:
        raise LabelsError(
            f"labels are {labels.dtype} of shape {list(labels.shape)}; top-1 needs one class number a sample",
            where=where,
            hint="save np.argmax(labels, -1) when they are one-hot"
            if labels.ndim == 2
            else 'to do without them: metric = "agreement" or "sqnr"',
        )
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or high >= classes:
        raise LabelsError(
            f"labels go from {low} to {high}, but the output has {classes} classes (0 to {classes - 1})", where=where
        )


def correct(outputs: Outputs, labels: Array) -> Scores:
    """1 where the top-1 class is the label, else 0."""
    return np.asarray(predictions(first_output(outputs))[:, 0] == labels.reshape(-1), np.float64)


def _agreement(shares: Array) -> MetricResult:
    same = interval_of(shares)
    lost = None if same is None else Interval(1 - same.high, 1 - same.low, same.method)
    return _result("agreement", np.ones(len(shares)), shares, lost)


def _compare(name: str, wanted: Scores, got: Scores) -> MetricResult:
    """Two sets of scores, paired."""
    if not (wanted.shape and got.shape):
        return _result(name, wanted, got, None, "none: the metric is one number for all samples")
    if np.isin(wanted, (0, 1)).all() and np.isin(got, (0, 1)).all():
        lost, won = int(np.sum(wanted > got)), int(np.sum(wanted < got))
        return _result(name, wanted, got, paired_proportions(lost, won, len(wanted)))
    return _result(name, wanted, got, paired_means(wanted - got))


def _result(
    name: str, wanted: Scores, got: Scores, lost: Interval | None, unknown: str = "none: fewer than two samples"
) -> MetricResult:
    """Scores within 0 to 1 (judged by the float model's) are given in percent.

    Args:
        name: of the metric.
        wanted: the float model's scores.
        got: the artifact's.
        lost: interval of the mean difference.
        unknown: why there is none.
    """
    share = bool(np.all((wanted >= 0) & (wanted <= 1)))
    scale = 100.0 if share else 1.0
    float_value, value = scale * float(wanted.mean()), scale * float(got.mean())
    return MetricResult(
        name=name,
        unit="points" if share else "1",
        float_value=float_value,
        value=value,
        drop=float_value - value,
        drop_low=scale * lost.low if lost else None,
        drop_high=scale * lost.high if lost else None,
        interval=lost.method if lost else unknown,
        samples=wanted.size,
    )


def _without_batch_axis(outputs: Outputs) -> Mapping[str, Array]:
    """(N, 1, ...) as (N, ...), which is what people write metrics for."""
    return {
        name: array.reshape(array.shape[0], *array.shape[2:]) if array.ndim >= 2 and array.shape[1] == 1 else array
        for name, array in outputs.items()
    }
