"""Which runtimes an artifact must be right in: one that is wrong where another is right is left out, with the reason.

Two runtimes of one file share its quantization, so what one of them loses alone does not depend on the recipe: the
ladder is not climbed for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgec.backends.interface import OpDifference, RuntimeSpec
from edgec.passes.coverage import Coverage
from edgec.verify.records import GateResult, Measurement

FAR_DB = 10.0
"""By how much farther from the float model's outputs than another runtime's a wrong one's are, at least.

Kernels that round otherwise cost a few dB.
"""

FindDifference = Callable[[str, str], OpDifference | None]
"""Where a runtime (the second) begins to compute something else than another does; None when that is not known."""


@dataclass
class AllowedRuntimes:
    """The runtimes of one artifact, and what its attempts have shown of them.

    Args:
        planned: those to verify it in; the first is timed.
        insisted: whether the target names them: then none is left out.
    """

    planned: tuple[RuntimeSpec, ...]
    insisted: bool
    _left_out: dict[str, str] = field(init=False)
    """Name -> reason."""
    _doubted: set[str] = field(default_factory=set)
    _compared: bool = False

    def __post_init__(self) -> None:
        self._left_out = {item.name: item.missing for item in self.planned if item.missing}

    @property
    def in_order(self) -> tuple[RuntimeSpec, ...]:
        """The order to verify in: what may be wrong comes late, where it keeps no attempt from being seen as right."""
        late = dict.fromkeys(self._doubted, 1) | dict.fromkeys(self._left_out, 2)
        known = sorted(self.planned, key=lambda item: late.get(item.name, 0))
        return tuple(
            item.model_copy(update={"judged": False}) if item.name in self._left_out else item for item in known
        )

    @property
    def unknown(self) -> bool:
        """Whether an attempt must be run in all runtimes, though one has missed a gate: which of them may be wrong?"""
        judged = [item for item in self.planned if item.judged and not item.missing]
        return not self.insisted and not self._compared and len(judged) > 1

    @property
    def coverage(self) -> dict[str, str]:
        """Runtimes that were left out, with reasons."""
        return dict(self._left_out)

    def leave_out_wrong(
        self, measured: Sequence[Measurement], missed: Sequence[GateResult], find: FindDifference
    ) -> tuple[Measurement, ...]:
        """`measured`, with those no longer judged whose runtime is wrong where another one meets its gates.

        Args:
            measured: of one attempt.
            missed: the gates that it missed.
            find: where two of its runtimes part.
        """
        judged = [item for item in measured if item.judged]
        if self.insisted or len(judged) < 2:
            return tuple(measured)
        self._compared = True
        failed = {gate.runtime for gate in missed if gate.quality or gate.gate == "runs"}
        best = max(judged, key=_nearness)
        wrong = [item for item in judged if _nearness(item) < _nearness(best) - FAR_DB]
        self._doubted |= {item.runtime for item in wrong}
        if best.runtime not in failed:
            for item in wrong:
                if item.runtime in failed:
                    self._left_out[item.runtime] = _reason(item, best, find)
        return tuple(
            item.model_copy(update={"judged": item.judged and item.runtime not in self._left_out}) for item in measured
        )


def left_out(file: str, runtimes: AllowedRuntimes) -> tuple[Coverage, ...]:
    """What to record of an artifact's runtimes."""
    return tuple(
        Coverage(subject=f"{file} in {name}", state="runtime left out", reason=reason)
        for name, reason in runtimes.coverage.items()
    )


def _nearness(item: Measurement) -> float:
    """SQNR in dB; of a runtime that did not run the file, less than of any that did."""
    value = item.sqnr_db()
    return -math.inf if value is None or item.failure else max(value, -1e9)


def _reason(wrong: Measurement, right: Measurement, find: FindDifference) -> str:
    there = f"{right.runtime} has {right.sqnr_db():.1f} dB on the same file"
    if wrong.failure:
        return f"{wrong.failure}; {there}"
    distance = f"its outputs are at {wrong.sqnr_db():.1f} dB from the float model's, and {there}"
    if (op := find(right.runtime, wrong.runtime)) is None:
        return distance
    where = f'{distance}; they differ from {op.op} "{op.name}" on'
    return f"{where} (alike to {op.before_db:.0f} dB before it, {op.sqnr_db:.0f} after)"
