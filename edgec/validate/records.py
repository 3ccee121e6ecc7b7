"""Results of `edgec validate`."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import computed_field

from edgec.backends.interface import ActivationRange
from edgec.frozen import Frozen
from edgec.verify.records import MayBeInfinite, MetricResult, OutputFidelity


class Share(Frozen):
    """A share of samples, from 0 to 1, with its 95 % interval (Wilson's score; of shares of samples, Student's t)."""

    value: float
    low: float
    high: float


class ClassResult(Frozen):
    """Results of one class, by label; without labels by the reference's prediction."""

    label: str
    samples: int
    value: float | None
    """Percent of its samples that the artifact gets right; None without labels."""
    float_value: float | None
    """Of the float model; None where it is not available."""
    agreement: float | None
    """Percent of its samples with the same prediction by artifact and reference."""


class SampleDifference(Frozen):
    """The results of one sample."""

    index: int
    """Its place in the data, from 0."""
    place: str
    """Its file, where it has one of its own."""
    label: str = ""
    predicted: str = ""
    """The artifact's class, where outputs are class scores."""
    expected: str = ""
    """The reference's."""
    sqnr_db: MayBeInfinite | None = None
    """Of the worst output against the reference."""
    layers: int | None = None
    """Ranges that it leaves; None where that was not observed."""


class RunResult(Frozen):
    """One artifact in one runtime on all samples."""

    bundle: str
    target: str
    artifact: str
    precision: str
    runtime: str
    role: Literal["artifact", "float", "reference"] = "artifact"
    """``float``: the float model that others are compared with; ``reference``: another artifact in its place."""
    failure: str = ""
    """Why it was not run; everything else is then None or empty."""
    value: float | None = None
    """The metric; None where it takes a reference or labels that are not there."""
    interval: Share | None = None
    """Of `value` where it is a share of samples."""
    bundle_value: float | None = None
    """The same metric on the evaluation set of the bundle, as its manifest has it."""
    paired: MetricResult | None = None
    """The metric against the float model's, sample by sample; None where it is not available."""
    agreement: Share | None = None
    """Share of samples with the reference's prediction; None without class scores."""
    fidelity: tuple[OutputFidelity, ...] = ()
    """Each output against the reference's."""
    classes: tuple[ClassResult, ...] = ()
    worst: tuple[SampleDifference, ...] = ()
    """Samples that differ most from the reference, the worst first."""

    @property
    def name(self) -> str:
        """``rpi4-int8/model.onnx in onnxruntime``."""
        return f"{self.bundle}/{self.artifact} in {self.runtime}"

    @computed_field  # type: ignore[prop-decorator]  # as in Pydantic's documentation
    @property
    def fall(self) -> float | None:
        """By how much the metric is lower here than on the bundle's evaluation set."""
        if self.value is None or self.bundle_value is None:
            return None
        return self.bundle_value - self.value


class LayerDrift(ActivationRange):
    """Drift of one calibrated range."""

    outside: Share
    """Samples that leave it (`edgec.verify.ranges`)."""
    evaluation: Share
    """Of the bundle's evaluation samples."""

    shift: float
    """By how much the tensor's level is higher than in the evaluation set, in standard deviations of that set's
    samples."""
    certain: float
    """The part of the shift's size that chance does not explain; 0 or more."""

    @computed_field  # type: ignore[prop-decorator]  # as in Pydantic's documentation
    @property
    def moved(self) -> float:
        """Percent of the samples that would have to change for the levels to be those of the evaluation set.

        Two normal distributions of one width that lie d widths apart differ in 2 Phi(d / 2) - 1 of their mass.
        """
        return 100 * math.erf(self.certain / (2 * math.sqrt(2)))

    @property
    def clear(self) -> bool:
        """Whether clearly more samples leave it than of the evaluation set."""
        return self.outside.low > self.evaluation.high


class Drift(Frozen):
    """Drift of one artifact: how the samples lie in its calibrated ranges."""

    bundle: str
    artifact: str
    runtime: str
    """In which its activations were observed; empty: only its inputs were."""
    samples: int
    outside: Share | None
    """Samples that leave at least one range; None where nothing could be observed."""
    evaluation: Share | None
    """Of the bundle's evaluation samples."""
    layers: tuple[LayerDrift, ...] = ()
    """In execution order."""
    reason: str = ""
    """What was not observed, and why."""

    @computed_field  # type: ignore[prop-decorator]  # as in Pydantic's documentation
    @property
    def leaving(self) -> float | None:
        """Share of samples that leave ranges, less that of the evaluation set, in percentage points."""
        if self.outside is None or self.evaluation is None:
            return None
        return 100 * (self.outside.value - self.evaluation.value)

    @computed_field  # type: ignore[prop-decorator]  # as in Pydantic's documentation
    @property
    def moved(self) -> float:
        """The largest `LayerDrift.moved`, in percent of the samples."""
        return max((layer.moved for layer in self.layers), default=0.0)

    @computed_field  # type: ignore[prop-decorator]  # as in Pydantic's documentation
    @property
    def points(self) -> float | None:
        """Drift in percentage points: the larger of `leaving` and `moved`."""
        leaving = self.leaving
        return None if leaving is None else max(leaving, self.moved)

    @property
    def clear(self) -> bool:
        """Whether clearly more samples leave ranges than of the evaluation set."""
        if self.outside is None or self.evaluation is None:
            return False
        return self.outside.low > self.evaluation.high

    @property
    def left(self) -> int:
        """Ranges that clearly more samples leave than of the evaluation set."""
        return sum(layer.clear for layer in self.layers)


class Validation(Frozen):
    """The result of `edgec validate`."""

    edgec: str
    data: str
    samples: int
    labelled: bool
    content_digest: str
    """Of the samples as the first bundle's preprocessing makes them."""
    metric: str
    reference: str
    """What artifacts are compared with, in words."""
    notes: tuple[str, ...]
    runs: tuple[RunResult, ...]
    drift: tuple[Drift, ...]
    """One for each artifact."""
