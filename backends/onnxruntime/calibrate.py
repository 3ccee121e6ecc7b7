"""Statistics of a graph's tensors over the calibration samples, one sample at a time, and the ranges they give."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

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
    found: dict[str, TensorStatistics | None] = {item.tensor: TensorStatistics(histogram) for item in watched}
    for sample in samples:
        feeds = {fed[name]: value for name, value in sample.items() if name in fed}
        arrays = dict(zip(names, session.run(names, feeds), strict=True))
        for item in watched:
            statistics = found[item.tensor]
            if statistics is None:
                continue
            seen = _seen(item, arrays)
            if seen is None:
                found[item.tensor] = None
            else:
                statistics.observe(seen)
    return found


def _seen(item: Observed, arrays: Mapping[str, Array]) -> Array | None:
    """What one sample tells of a tensor; None when that is not finite or too large."""
    ends = [arrays[name] for name in item.extremes or (item.values,)]
    low = np.float32(0) if item.rectified else ends[0].min()  # NaN wins: it must show
    high = ends[-1].max()
    if not (low >= -LIMIT and high <= LIMIT):
        return None
    extremes = np.array([low, high], np.float32)
    if not item.values:
        return extremes
    values: Array = part(arrays[item.values])
    return values if values.size == arrays[item.values].size and not item.extremes else np.append(values, extremes)


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
