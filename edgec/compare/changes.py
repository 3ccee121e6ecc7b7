"""The change of one quantity of one artifact in one runtime from one bundle to another, or why it is not known."""

from __future__ import annotations

import math
from typing import Literal

from edgec.bundle.manifest import Accuracy
from edgec.compare.limits import Quantity
from edgec.frozen import Frozen
from edgec.machine import Machine
from edgec.verify.records import Latency, MayBeInfinite, Measurement, Speed

Cause = Literal["data", "machine", "not measured"]

SHARE = "x float32"
"""Unit of a latency as a share of the float32 twin's."""
BUSY = 0.05
"""Share by which the float32 twin must have become slower before the machine is suspected."""


class Change(Frozen):
    """The old and the new value of one quantity."""

    quantity: Quantity
    unit: str
    """``points``, ``dB``, ``1`` (the metric's own scale), ``KiB``, ``ms``, ``x float32`` or ``MB``."""
    old: MayBeInfinite | None
    new: MayBeInfinite | None
    worse: MayBeInfinite | None
    """By how much `new` is worse, in `unit`; negative when it is better; None when they are not comparable."""
    cause: Cause | None = None
    """Why they are not comparable."""
    reason: str = ""
    """The same in words; for comparable values, a note."""

    @property
    def relative(self) -> float | None:
        """`worse` as a share of the old value."""
        if self.worse is None or self.old is None:
            return None
        if self.worse == 0:
            return 0.0
        return self.worse / abs(self.old) if self.old else math.copysign(math.inf, self.worse)


def compare_accuracy(old: Accuracy, new: Accuracy, other_data: str) -> Change:
    """The metric that gates judge; without one (``sqnr``), the SQNR of the worst output.

    Args:
        old: of the older bundle.
        new: of the newer one.
        other_data: why the evaluation data are not the same; empty when they are.
    """
    names = (old.metric.name if old.metric else "sqnr", new.metric.name if new.metric else "sqnr")
    units = (old.metric.unit if old.metric else "dB", new.metric.unit if new.metric else "dB")
    values = (old.metric.value if old.metric else _sqnr(old), new.metric.value if new.metric else _sqnr(new))
    if names[0] != names[1] or units[0] != units[1]:
        reason = f"the metric differs: {names[0]} in {units[0]}, now {names[1]} in {units[1]}"
        return _incomparable("accuracy", units[1], values, "data", reason)
    return _higher_is_better("accuracy", units[1], values, other_data)


def compare_agreement(old: Accuracy, new: Accuracy, other_data: str) -> Change:
    """Share of samples whose arg-max is the float model's, in percentage points.

    Args:
        old, new, other_data: as of `compare_accuracy`.
    """
    values = tuple(None if item.agreement is None else 100 * item.agreement for item in (old, new))
    return _higher_is_better("agreement", "points", (values[0], values[1]), other_data)


def compare_size(old: int | None, new: int | None) -> Change:
    """File sizes of an artifact, given in bytes; None: the bundle does not have it."""
    values = tuple(None if size is None else size / 1024 for size in (old, new))
    return _lower_is_better("size", "KiB", (values[0], values[1]))


def compare_latency(old: Measurement, new: Measurement, other_model: str) -> Change:
    """Median latency: in milliseconds where machine and threads are the same, else as a share of the float32 twin's.

    The twin was timed turn by turn with the artifact, so the share holds on machines of different speed. It does not
    see when both became slower, and so is used only where the float model computes the same as before.

    Args:
        old: of the older bundle.
        new: of the newer one.
        other_model: in what the float models differ, other than in weights; empty when they do not.
    """
    if old.latency is None or new.latency is None:
        sides = {"OLD": old.latency, "NEW": new.latency}
        missing = " and ".join(name for name, timed in sides.items() if timed is None)
        first, second = (None if timed is None else timed.p50_ms for timed in sides.values())
        return _incomparable("latency", "ms", (first, second), "not measured", f"{missing} was not timed")
    values = (old.latency.p50_ms, new.latency.p50_ms)
    if not (difference := _other_machine(old, new) or _other_threads(old.latency, new.latency)):
        note = _busy(old.speed, new.speed, values) if not other_model else ""
        return _compared("latency", "ms", values, values[1] - values[0], note)
    if old.emulated or new.emulated:
        return _incomparable("latency", "ms", values, "machine", difference)
    if old.speed is None or new.speed is None:
        missing = "OLD" if old.speed is None else "NEW"
        return _incomparable(
            "latency", "ms", values, "machine", f"{difference}, and {missing} has no float32 twin's time"
        )
    if other_model:
        why = f"{difference}, and so does {other_model}: its float32 twin alone cannot show a slower model"
        return _incomparable("latency", "ms", values, "machine", why)
    shares = (1 / old.speed.ratio, 1 / new.speed.ratio)
    note = f"as a share of the float32 twin's time, because {difference}"
    return _compared("latency", SHARE, shares, shares[1] - shares[0], note)


def compare_memory(old: Measurement, new: Measurement) -> Change:
    """Peak resident memory of the process that runs the artifact, in MB, where the machine is the same."""
    values = (old.peak_rss_mb, new.peak_rss_mb)
    if difference := _other_machine(old, new):
        return _incomparable("memory", "MB", values, "machine", difference)
    return _lower_is_better("memory", "MB", values)


def untimed(quantity: Quantity, unit: str, reason: str) -> Change:
    """The change of a quantity that one bundle has no record of.

    Args:
        quantity: which one.
        unit: of it.
        reason: why there is no record.
    """
    return _incomparable(quantity, unit, (None, None), "not measured", reason)


Values = tuple[float | None, float | None]


def _sqnr(item: Accuracy) -> float | None:
    return min((output.sqnr_db for output in item.fidelity), default=None)


def _higher_is_better(quantity: Quantity, unit: str, values: Values, other_data: str) -> Change:
    change = _lower_is_better(quantity, unit, values)
    if change.worse is None:
        return change
    if other_data:
        return _incomparable(quantity, unit, values, "data", other_data)
    return change.model_copy(update={"worse": -change.worse if change.worse else 0.0})


def _lower_is_better(quantity: Quantity, unit: str, values: Values) -> Change:
    old, new = values
    if old is None or new is None or math.isnan(old) or math.isnan(new):
        sides = [name for name, value in (("OLD", old), ("NEW", new)) if value is None or math.isnan(value)]
        return _incomparable(quantity, unit, values, "not measured", f"there is no value in {' and '.join(sides)}")
    return _compared(quantity, unit, values, 0.0 if old == new else new - old)  # both may be infinite


def _compared(quantity: Quantity, unit: str, values: Values, worse: float, note: str = "") -> Change:
    return Change(quantity=quantity, unit=unit, old=values[0], new=values[1], worse=worse, reason=note)


def _incomparable(quantity: Quantity, unit: str, values: Values, cause: Cause, reason: str) -> Change:
    old, new = (None if value is not None and math.isnan(value) else value for value in values)
    return Change(quantity=quantity, unit=unit, old=old, new=new, worse=None, cause=cause, reason=reason)


def _other_machine(old: Measurement, new: Measurement) -> str:
    """How the machines differ; empty when they do not."""
    if old.emulated or new.emulated:
        return "it was measured in an emulator"
    if old.machine == new.machine:
        return ""
    return f"the machine differs ({_named(old.machine, new.machine)}, now {_named(new.machine, old.machine)})"


def _named(machine: Machine, other: Machine) -> str:
    name = machine.cpu if machine.cpu != other.cpu else machine.arch
    if machine.cores != other.cores:
        name += f" with {machine.cores} cores"
    if (machine.cpu, machine.arch, machine.cores) == (other.cpu, other.arch, other.cores):
        name += f" with {' '.join(sorted(set(machine.features) - set(other.features))) or 'fewer features'}"
    return name


def _other_threads(old: Latency, new: Latency) -> str:
    return "" if old.threads == new.threads else f"the number of threads differs ({old.threads}, now {new.threads})"


def _busy(old: Speed | None, new: Speed | None, values: tuple[float, float]) -> str:
    """Whether the float twin, which computes the same as before, became slower together with the artifact."""
    if old is None or new is None or values[1] <= values[0]:
        return ""
    slower = new.float_ms / old.float_ms - 1
    if slower <= BUSY:
        return ""
    return f"its float32 twin takes {100 * slower:.0f} % longer too: a busy machine or a slower runtime"
