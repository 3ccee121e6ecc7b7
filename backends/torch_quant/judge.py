"""Which of several quantized graphs is best: nearest to the float graph on calibration samples, then fastest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.qconfig import Observer
from edgec.dataset.spool import Spool
from edgec.model.outputs import tensors_of

if TYPE_CHECKING:
    from edgec.model.spec import Array

SAMPLES = 64
TIMED_SECONDS = 2.0
TIE_DB = 0.5
"""Candidates within this of the best are equally exact."""
CLEARLY_FASTER = 0.75
"""A smaller gain in time is noise, and would make builds differ."""


@dataclass(frozen=True)
class Candidate:
    """One quantized graph, measured."""

    engine: str
    observer: Observer
    sqnr_db: float
    agreement: float
    milliseconds: float


def judge(
    model: TorchModel, made: Mapping[tuple[str, Observer], TorchModel], samples: Spool, threads: int
) -> list[Candidate]:
    """Measure candidates against float graph `model`."""
    from edgec.backends.torch_quant.quantize import call_arguments, spread

    feeds = [call_arguments(model, samples[index]) for index in spread(len(samples), SAMPLES)]

    def outputs(graph: Any) -> list[list[Array]]:
        results = [tensors_of(graph(*[item.clone() for item in feed])) for feed in feeds]
        return [[item.numpy() for item in tensors] for tensors in results]

    with running(model.engine, threads):
        wanted = outputs(model.graph)
    found = []
    for (engine, observer), candidate in made.items():
        with running(engine, threads):
            graph = _scripted(candidate)
            given = outputs(graph)
            found.append(
                Candidate(engine, observer, sqnr(wanted, given), agreement(wanted, given), _milliseconds(graph, feeds))
            )
    return found


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The most exact candidate, or one as exact that is clearly faster."""
    chosen = max(candidates, key=lambda item: item.sqnr_db)
    equal = [
        item for item in candidates if item.sqnr_db >= chosen.sqnr_db - TIE_DB and item.agreement >= chosen.agreement
    ]
    fastest = min(equal, key=lambda item: item.milliseconds)
    return fastest if fastest.milliseconds < CLEARLY_FASTER * chosen.milliseconds else chosen


def table(candidates: Sequence[Candidate]) -> str:
    """All candidates in one line, for the report."""
    return ", ".join(
        f"{item.engine}/{item.observer}: {item.sqnr_db:.1f} dB, top-1 agreement {item.agreement:.3f}, "
        f"{item.milliseconds:.2f} ms"
        for item in candidates
    )


def sqnr(wanted: Sequence[Sequence[Array]], given: Sequence[Sequence[Array]]) -> float:
    """Signal to quantization noise over all samples in dB: of the output that has least of it."""
    worst = np.inf
    for position in range(len(wanted[0])):
        signal = noise = 0.0
        for ours, theirs in zip(wanted, given, strict=True):
            exact = ours[position].astype(np.float64)
            signal += float((exact**2).sum())
            noise += float(((exact - theirs[position]) ** 2).sum())
        if signal > 0:
            worst = min(worst, 10 * np.log10(signal / max(noise, signal * 1e-20)))
    return float(worst)


def agreement(wanted: Sequence[Sequence[Array]], given: Sequence[Sequence[Array]]) -> float:
    """Share of samples whose first output has its maximum along the last axis at the same place everywhere."""
    same = [
        bool((ours[0].argmax(-1) == theirs[0].argmax(-1)).all()) for ours, theirs in zip(wanted, given, strict=True)
    ]
    return float(np.mean(same))


def _scripted(model: TorchModel) -> Any:
    from edgec.backends.torch_quant.emit import script

    return script(model)


def _milliseconds(graph: Any, feeds: Sequence[Any]) -> float:
    times: list[float] = []
    began = time.perf_counter()
    for feed in feeds:
        start = time.perf_counter()
        graph(*feed)
        times.append(1e3 * (time.perf_counter() - start))
        if time.perf_counter() - began > TIMED_SECONDS:
            break
    return min(times)  # the least disturbed by other processes
