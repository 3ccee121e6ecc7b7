"""Statistics of a graph's tensors over the calibration samples, one sample at a time, and the ranges they give."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgec.backends.onnxruntime.exclude import never_static
from edgec.backends.onnxruntime.functions_read import functions_read
from edgec.backends.onnxruntime.graph import OnnxModel, input_names, output_names
from edgec.backends.onnxruntime.observe import (
    SAMPLE_VALUES,
    Observed,
    aliases,
    observed_tensors,
    part,
    with_observations,
)
from edgec.backends.onnxruntime.session import open_session, run
from edgec.errors import DatasetError
from edgec.model.spec import Array, Tensors
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.quant.recipe import RangeMethod
from edgec.storage.temporary import private_folder

if TYPE_CHECKING:
    from edgec.quant.statistics import TensorStatistics

Range = tuple[np.float32, np.float32]
"""Smallest and largest value that a tensor's codes span."""
LIMIT = np.float32(1e30)
"""Beyond this magnitude a step overflows all else."""
_TOGETHER = 32
"""Samples whose extremes are taken in together."""


@dataclass(frozen=True)
class CollectRanges(Pass[OnnxModel]):
    """Run the calibration samples through the float graph and keep statistics of what may be quantized.

    The statistics serve every range method (those with histograms, if `histogram`) and every choice of float layers.
    """

    histogram: bool = False
    dynamic_linear: bool = False
    """Whether linear layers, and what stands between them, need no ranges."""

    name: ClassVar[str] = "collect-ranges"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        samples = ctx.samples(self.name)
        never = self._never(model)
        statistics = observe(model, samples, histogram=self.histogram, threads=ctx.threads, work=ctx.work, never=never)
        kind = "histograms" if self.histogram else "extremes"
        return PassResult(
            replace(model, statistics=statistics),
            f"{kind} of {len(statistics)} tensors over {len(samples)} samples",
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        missing = set(observed_tensors(model.proto, self._never(model))) - set(model.statistics)
        return f"no statistics of {', '.join(sorted(missing))}" if missing else None

    def _never(self, model: OnnxModel) -> frozenset[str]:
        return never_static(model.proto) if self.dynamic_linear else frozenset()


def observe(
    model: OnnxModel,
    samples: Sequence[Tensors],
    *,
    histogram: bool,
    threads: int,
    work: Path,
    never: Collection[str] = (),
) -> dict[str, TensorStatistics | None]:
    """Statistics of every tensor that may be quantized; None for one with values no 8-bit scale can hold.

    Each sample brings back a few numbers a tensor and, for histograms, some thousand values; memory does not grow
    with the number of samples. (The stock calibrater keeps every output until the end, and its
    ``max_intermediate_outputs`` throws data away unmerged.)

    Args:
        model: the float graph.
        samples: in the float model's names and layout.
        histogram: collect histograms too, not only extremes.
        threads: CPU threads of the runtime.
        work: scratch folder.
        never: tensors that stay in float.

    Raises:
        DatasetError: there are no samples, or the model answers one with NaN.
        UnsupportedError: ONNX Runtime refuses the graph.
    """
    import onnx

    if len(samples) == 0:
        raise DatasetError("the calibration set is empty", where=model.name)
    proto, watched = with_observations(model, histogram=histogram, never=never)
    if not watched:
        return {}
    with private_folder(work, "calibrate-") as folder:
        file = Path(folder, "observed.onnx")
        onnx.save(proto, str(file))
        session = open_session(file, threads=threads)
    fed = input_names(model)
    names = list(dict.fromkeys(name for item in watched for name in (*item.extremes, item.values) if name))
    own = [item.name for item in model.proto.graph.output]
    wanted = list(dict.fromkeys((*names, *own)))

    def results() -> Iterator[list[Array]]:
        for index in range(len(samples)):
            # a tensor that is the input's own lies in the sample's memory, which must outlive it
            sample = samples[index]
            feeds = {fed[name]: value for name, value in sample.items() if name in fed}
            given = run(session, wanted, feeds, f"{model.name}, calibration sample {index}")
            outputs: dict[str, Array] = dict(zip(wanted, given, strict=True))
            for name in own:
                if outputs[name].dtype.kind == "f" and np.isnan(outputs[name]).any():
                    raise DatasetError(
                        "calibration met NaN",
                        where=f"{model.name}, calibration sample {index}",
                        hint="the float model answers this sample with NaN: check the sample and its preprocessing",
                    )
            yield [outputs[name] for name in names]

    outputs = _histograms(watched, names, results()) if histogram else _extremes(watched, names, results())
    usable = {tensor: item.low >= -LIMIT and item.high <= LIMIT for tensor, item in outputs.items()}
    return {tensor: item if usable[tensor] else None for tensor, item in outputs.items()}


def _extremes(
    watched: Sequence[Observed], names: Sequence[str], results: Iterable[Sequence[Array]]
) -> dict[str, TensorStatistics]:
    """From the tensors' extremes in each sample; all of them at once, for most of the time goes to calls."""
    from edgec.quant.statistics import TensorStatistics

    together = TensorStatistics(False, channel_axis=1)
    place = {name: at for at, name in enumerate(names)}
    first = [None if item.rectified else place[item.extremes[0]] for item in watched]
    last = [place[item.extremes[-1]] for item in watched]
    floor = np.array([at is None for at in first])
    low_of = [high if low is None else low for low, high in zip(first, last, strict=True)]
    held: list[Array] = []
    sizes: list[int] = []

    def take_in() -> None:
        joined, starts = np.stack(held), np.cumsum([0, *sizes[:-1]])
        held.clear()
        lows = np.minimum.reduceat(joined, starts, axis=1)[:, low_of]
        highs = np.maximum.reduceat(joined, starts, axis=1)[:, last]
        lows[:, floor] = 0
        together.observe_batch(np.stack([lows, highs], axis=2))

    for arrays in results:
        lengths = [array.size for array in arrays]
        if held and (lengths != sizes or len(held) == _TOGETHER):
            take_in()
        sizes = lengths
        held.append(np.concatenate(arrays, axis=None))
    take_in()
    return {item.tensor: together.channel(index) for index, item in enumerate(watched)}


def _histograms(
    watched: Sequence[Observed], names: Sequence[str], results: Iterable[Sequence[Array]]
) -> dict[str, TensorStatistics]:
    """From a part of the tensors' values in each sample and their extremes."""
    from edgec.quant.statistics import TensorStatistics

    statistics_of = {item.tensor: TensorStatistics(True) for item in watched}
    place = {name: at for at, name in enumerate(names)}
    sources = [(statistics_of[item.tensor], place[item.values], item) for item in watched]
    for arrays in results:
        for statistics, at, item in sources:
            values = arrays[at]
            if not item.extremes and values.size < 2 * SAMPLE_VALUES:  # all of them are counted
                statistics.observe(values)
                continue
            ends = [arrays[place[name]] for name in item.extremes] or [values]
            low = np.float32(0) if item.rectified else ends[0].min()
            statistics.observe(np.append(part(values), np.array([low, ends[-1].max()], np.float32)))
    return statistics_of


def ranges(model: OnnxModel, method: RangeMethod) -> dict[str, Range]:
    """The range of every tensor with usable statistics, and of those that have another's values.

    Outputs of the model keep their whole range: what a clipped head cuts off first is the answer itself, the
    largest logit or the far end of a regression.
    """
    from edgec.quant.ranges import choose_range
    from edgec.quant.saturation import cut

    whole = set(output_names(model).values())
    functions = functions_read(model.proto)
    chosen: dict[str, Range] = {}
    for tensor, statistics in model.statistics.items():
        if statistics is not None:
            low, high = choose_range(statistics, "minmax" if tensor in whole else method)
            low, high = cut(low, high, functions.get(tensor))
            chosen[tensor] = (np.float32(low), np.float32(high))
    same = aliases(model.proto)
    return chosen | {tensor: chosen[source] for tensor, source in same.items() if source in chosen}


def unusable(model: OnnxModel) -> frozenset[str]:
    """Tensors whose range no 8-bit scale can hold: not finite, or so wide that the step overflows all else."""
    bad = {tensor for tensor, statistics in model.statistics.items() if statistics is None}
    return frozenset(bad | {tensor for tensor, source in aliases(model.proto).items() if source in bad})
