"""Statistics of a graph's tensors over the calibration samples, one sample at a time, and the ranges they give."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backends.onnxruntime.graph import OnnxModel, input_names, output_names
from edgec.backends.onnxruntime.observe import Observed, aliases, observed_tensors, part, with_observations
from edgec.backends.onnxruntime.session import open_session
from edgec.errors import DatasetError
from edgec.model.spec import Array, Tensors
from edgec.passes.contract import PassContext, PassResult
from edgec.quant.recipe import RangeMethod

if TYPE_CHECKING:
    from edgec.quant.statistics import TensorStatistics

Range = tuple[np.float32, np.float32]
"""Smallest and largest value that a tensor's codes span."""
LIMIT = np.float32(1e30)
"""Beyond this magnitude a step overflows all else."""


@dataclass(frozen=True)
class CollectRanges:
    """Run the calibration samples through the float graph and keep statistics of what may be quantized.

    The statistics serve every range method (those with histograms, if `histogram`) and every choice of float layers.
    """

    histogram: bool = False

    @property
    def name(self) -> str:
        return "collect-ranges"

    def requires(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        if ctx.calibration is None:
            raise DatasetError("static int8 needs calibration samples", where=f"pass {self.name}")
        statistics = observe(model, ctx.calibration, histogram=self.histogram, threads=ctx.threads, work=ctx.work)
        kind = "histograms" if self.histogram else "extremes"
        return PassResult(
            replace(model, statistics=statistics),
            f"{kind} of {len(statistics)} tensors over {len(ctx.calibration)} samples",
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        missing = set(observed_tensors(model.proto)) - set(model.statistics)
        return f"no statistics of {', '.join(sorted(missing))}" if missing else None


def observe(
    model: OnnxModel, samples: Sequence[Tensors], *, histogram: bool, threads: int, work: Path
) -> dict[str, TensorStatistics | None]:
    """Statistics of every tensor that may be quantized; None for one with values no 8-bit scale can hold.

    Each sample brings back a few numbers a tensor and, for histograms, some thousand values; memory does not grow
    with the number of samples. (The stock calibrater keeps every output until the end, and its
    ``max_intermediate_outputs`` throws data away unmerged.)

    Raises:
        DatasetError: there are no samples.
        UnsupportedError: ONNX Runtime refuses the graph.
    """
    import onnx

    from edgec.quant.statistics import TensorStatistics

    if len(samples) == 0:
        raise DatasetError("the calibration set is empty", where=model.name)
    proto, watched = with_observations(model, histogram=histogram)
    if not watched:
        return {}
    with tempfile.TemporaryDirectory(dir=work, prefix="calibrate-") as folder:
        file = Path(folder, "observed.onnx")
        onnx.save(proto, str(file))
        session = open_session(file, threads=threads)
    fed = input_names(model)
    names = list(dict.fromkeys(name for item in watched for name in (*item.extremes, item.values) if name))
    extremes = TensorStatistics(False, channel_axis=0)  # of all tensors at once: one call a sample, not one a tensor
    found: dict[str, TensorStatistics | None] = {item.tensor: TensorStatistics(histogram) for item in watched}
    for sample in samples:
        feeds = {fed[name]: value for name, value in sample.items() if name in fed}
        arrays = dict(zip(names, session.run(names, feeds), strict=True))
        if not histogram:
            extremes.observe(np.array([_extremes(item, arrays) for item in watched], np.float32))
            continue
        for item in watched:
            if (statistics := found[item.tensor]) is not None:
                low, high = _extremes(item, arrays)
                if _is_usable(low, high):
                    statistics.observe(_values(item, arrays, low, high))
                else:
                    found[item.tensor] = None
    if not histogram:
        for index, item in enumerate(watched):
            usable = _is_usable(extremes.lows[index], extremes.highs[index])
            found[item.tensor] = _of_channel(extremes, index) if usable else None
    return found


def _extremes(item: Observed, arrays: Mapping[str, Array]) -> tuple[Any, Any]:
    """A tensor's smallest and largest value in one sample; NaN wins: it must show."""
    ends = [arrays[name] for name in item.extremes or (item.values,)]
    return np.float32(0) if item.rectified else ends[0].min(), ends[-1].max()


def _is_usable(low: Any, high: Any) -> bool:
    return bool(low >= -LIMIT and high <= LIMIT)


def _values(item: Observed, arrays: Mapping[str, Array], low: Any, high: Any) -> Array:
    """What a histogram counts of one sample: some of a tensor's values, and its extremes."""
    values: Array = part(arrays[item.values])
    whole = values.size == arrays[item.values].size and not item.extremes
    return values if whole else np.append(values, np.array([low, high], np.float32))


def _of_channel(statistics: TensorStatistics, index: int) -> TensorStatistics:
    """One tensor's statistics out of those of many."""
    from edgec.quant.statistics import TensorStatistics

    one = TensorStatistics(False)
    one.samples, one.elements = statistics.samples, 2 * statistics.samples
    one.lows, one.highs = statistics.lows[[index]], statistics.highs[[index]]
    one.average_lows, one.average_highs = statistics.average_lows[[index]], statistics.average_highs[[index]]
    return one


def ranges(model: OnnxModel, method: RangeMethod) -> dict[str, Range]:
    """The range of every tensor with usable statistics, and of those that have another's values.

    Outputs of the model keep their whole range: what a clipped head cuts off first is the answer itself, the
    largest logit or the far end of a regression.
    """
    from edgec.quant.ranges import choose_range

    whole = set(output_names(model).values())
    found: dict[str, Range] = {}
    for tensor, statistics in model.statistics.items():
        if statistics is not None:
            low, high = choose_range(statistics, "minmax" if tensor in whole else method)
            found[tensor] = (np.float32(low), np.float32(high))
    same = aliases(model.proto)
    return found | {tensor: found[source] for tensor, source in same.items() if source in found}


def unusable(model: OnnxModel) -> frozenset[str]:
    """Tensors whose range no 8-bit scale can hold: not finite, or so wide that the step overflows all else."""
    bad = {tensor for tensor, statistics in model.statistics.items() if statistics is None}
    return frozenset(bad | {tensor for tensor, source in aliases(model.proto).items() if source in bad})
