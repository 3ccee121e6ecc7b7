"""Statistics of activations, collected once and used by every recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.observed import Observed, observe, silence_repeats
from edgec.dataset.spool import Spool
from edgec.errors import DatasetError
from edgec.model.outputs import tensors_of
from edgec.passes.contract import Pass, PassContext, PassResult

if TYPE_CHECKING:
    import torch

    from edgec.quant.statistics import TensorStatistics

JUDGED = 32
"""Samples whose float outputs are kept, for the choice between engines (`judge`)."""


@dataclass(frozen=True)
class CollectRanges(Pass[TorchModel]):
    """Run the calibration samples through the float graph and watch what will be quantized."""

    histogram: bool = False
    """Whether methods that look at more than extremes will ask."""

    name: ClassVar[str] = "collect-ranges"

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        samples = ctx.samples(self.name)
        observed = observe(model)
        wanted = spread(len(samples), JUDGED)
        statistics, outputs = run_observed(model, observed, samples, ctx.threads, self.histogram, wanted)
        summary = f"ranges of {len(observed.sources)} tensors over {len(samples)} samples"
        return PassResult(replace(model, statistics=statistics, reference=outputs), summary)


def run_observed(
    model: TorchModel,
    observed: Observed,
    samples: Spool,
    threads: int,
    histogram: bool,
    keep: Sequence[int] = (),
) -> tuple[dict[str, TensorStatistics], dict[int, tuple[torch.Tensor, ...]]]:
    """Statistics by the name of the node that makes the tensor, and the float outputs of samples `keep`.

    Args:
        model: how to call the graph.
        observed: what to run; repeated observers of it are erased.
        samples: all are run.
        threads: threads within an op.
        histogram: whether to count values in bins.
        keep: indices of samples.

    Raises:
        DatasetError: the float graph answers a sample with NaN.
    """
    import torch

    from edgec.backends.torch_quant.batches import batch_size
    from edgec.quant.statistics import TensorStatistics, elements_of_each

    silence_repeats(observed)
    statistics: dict[str, TensorStatistics] = {}
    for observer, names in observed.sources:
        observer.statistics = TensorStatistics(histogram, most=elements_of_each(len(samples)))
        statistics.update(dict.fromkeys(names, observer.statistics))
    outputs: dict[int, tuple[torch.Tensor, ...]] = {}

    def arguments(indices: Sequence[int]) -> list[torch.Tensor]:
        rows = [call_arguments(model, samples[index]) for index in indices]
        return rows[0] if len(rows) == 1 else [torch.cat(column) for column in zip(*rows, strict=True)]

    def run(indices: Sequence[int]) -> None:
        result = tensors_of(observed.graph(*arguments(indices)))
        rows = [result] if len(indices) == 1 else [[item[at : at + 1] for item in result] for at in range(len(indices))]
        for index, row in zip(indices, rows, strict=True):
            if any(item.is_floating_point() and bool(item.isnan().any()) for item in row):
                raise DatasetError(
                    "calibration met NaN",
                    where=f"{model.name}, calibration sample {index}",
                    hint="the float model answers this sample with NaN: check the sample and its preprocessing",
                )
            if index in keep:
                outputs[index] = tuple(item.clone() for item in row)

    with running(model.engine, threads):
        if len(samples):
            run([0])
        size = batch_size(observed, samples, arguments)
        for observer, _ in observed.sources:
            observer.batched = size > 1
        for start in range(1, len(samples), size):
            run(range(start, min(start + size, len(samples))))
    return statistics, outputs


def spread(total: int, limit: int) -> Sequence[int]:
    """At most `limit` of `total` indices, evenly spaced."""
    if total <= limit:
        return range(total)
    return [index * total // limit for index in range(limit)]


def call_arguments(model: TorchModel, sample: Any) -> list[torch.Tensor]:
    """A sample's tensors in call order."""
    import torch

    return [torch.from_numpy(sample[item.name]) for item in model.inputs]
