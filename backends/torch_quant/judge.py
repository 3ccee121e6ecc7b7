"""Which of several quantized graphs is best: nearest to the float graph on calibration samples.

Nothing is timed here: two builds of the same inputs must choose alike. Among equally exact ones the order of the
candidates decides, which is fastest engine first (`kernels.fastest_first`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.torch_quant.collect import call_arguments
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.model import TorchModel
from edgec.dataset.spool import Spool
from edgec.errors import DatasetError
from edgec.model.outputs import tensors_of

if TYPE_CHECKING:
    from edgec.model.spec import Array

TIE_DB = 1.0
TIE_AGREEMENT = 0.05
"""Candidates within these of the best are equally exact: so few samples show no difference."""


@dataclass(frozen=True)
class Candidate:
    """One quantized graph, measured."""

    engine: str
    sqnr_db: float
    agreement: float


def judge(model: TorchModel, made: Mapping[str, TorchModel], samples: Spool | None, threads: int) -> list[Candidate]:
    """Measure candidates, by engine, on the samples whose float outputs `model` has.

    All have the same ranges, so that these were chosen on the same samples favours none.

    Args:
        model: the lowered float model, with its outputs on the samples.
        made: candidates, by engine.
        samples: of calibration.
        threads: CPU threads within an op.
    """
    if samples is None or not model.reference:
        raise DatasetError("no samples to choose an engine on", where=model.name)
    wanted = [[item.numpy() for item in tensors] for tensors in model.reference.values()]
    feeds = [call_arguments(model, samples[index]) for index in model.reference]
    candidates = []
    for engine, candidate in made.items():
        with running(engine, threads):
            results = [tensors_of(candidate.graph(*feed)) for feed in feeds]
        given = [[item.numpy() for item in tensors] for tensors in results]
        candidates.append(Candidate(engine, sqnr(wanted, given), agreement(wanted, given)))
    return candidates


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The first of the candidates that are equally exact: by SQNR, and of these by agreement with float."""
    most = max(item.sqnr_db for item in candidates)
    equal = [item for item in candidates if item.sqnr_db >= most - TIE_DB]
    agreed = max(item.agreement for item in equal)
    return next(item for item in equal if item.agreement >= agreed - TIE_AGREEMENT)


def table(candidates: Sequence[Candidate]) -> str:
    """All candidates in one line, for the report."""
    return ", ".join(
        f"{item.engine}: {item.sqnr_db:.1f} dB, top-1 agreement {item.agreement:.3f}" for item in candidates
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
