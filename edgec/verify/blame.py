"""Which ops make an artifact slower than its float32 twin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.backends.interface import OpRecord, OpTime
from edgec.verify.records import Measurement, SlowOp

MOST = 8
"""Kinds of ops that are named."""
SMALL = 0.02
"""Share of the artifact's time below which a kind of op is not worth naming."""
CONVERTS = "converts between float and integers, which the float model does not need"
SLOW_KERNEL = "its kernel is slower here than the float one"


@dataclass(frozen=True)
class Profile:
    """An artifact's ops, and their times where the runtime measures them."""

    ops: Sequence[OpRecord]
    times: Sequence[OpTime] | None = None


def slow_ops(artifact: Profile, twin: Profile) -> tuple[SlowOp, ...]:
    """Casts, ops that are not in the target's precision, and kernels that are slower than the twin's.

    Ops are alike when op, dtype and reason are equal. With times they come in the order of what they cost over the
    twin's same layers (casts and ops outside the target's precision: of what they take at all), and small ones are
    left out; those without a time of their own come last. Without any times they come in the order of their number.
    """
    kinds: dict[tuple[str, str, str], list[OpRecord]] = {}
    for record in artifact.ops:
        kinds.setdefault((record.op, record.dtype, record.reason), []).append(record)
    time_of, twin_of = _milliseconds(artifact), _twin_milliseconds(artifact, twin)
    total = sum(item.microseconds for item in artifact.times or ()) / 1000
    costs: list[tuple[float, SlowOp]] = []
    for (op, dtype, reason), records in kinds.items():
        timed = [record for record in records if record.name in time_of]
        ms = sum(time_of[record.name] for record in timed) if timed else None
        float_ms = None
        if timed and all(record.name in twin_of for record in timed):
            float_ms = sum(twin_of[record.name] for record in timed)
        if dtype == "cast" or reason:
            cost, why = ms or 0.0, reason or CONVERTS
        elif ms is not None and float_ms is not None:
            cost, why = ms - float_ms, SLOW_KERNEL
        else:
            continue
        if ms is None or cost > SMALL * total:
            costs.append((cost, SlowOp(op=op, dtype=dtype, count=len(records), ms=ms, float_ms=float_ms, reason=why)))
    if artifact.times is None:
        costs = [(item.count, item) for _, item in costs]
    return tuple(item for _, item in sorted(costs, key=lambda pair: -pair[0])[:MOST])


def _milliseconds(profile: Profile) -> dict[str, float]:
    """Of each op that has a time, by name; ops of equal name share it evenly."""
    total: dict[str, float] = {}
    for item in profile.times or ():
        total[item.name] = total.get(item.name, 0.0) + item.microseconds / 1000
    count = Counter(record.name for record in profile.ops)
    return {name: ms / max(1, count[name]) for name, ms in total.items()}


def _twin_milliseconds(artifact: Profile, twin: Profile) -> dict[str, float]:
    """Of each op but casts what its layer takes in the twin; ops of one layer share that as they share its time."""
    float_of: dict[str, float] = {}
    for item in twin.times or ():
        if item.layer:
            float_of[item.layer] = float_of.get(item.layer, 0.0) + item.microseconds / 1000
    time_of, layer_of = _milliseconds(artifact), {}
    taken: dict[str, float] = {}
    for record in artifact.ops:
        if record.dtype != "cast" and record.layer in float_of and time_of.get(record.name):
            layer_of[record.name] = record.layer
            taken[record.layer] = taken.get(record.layer, 0.0) + time_of[record.name]
    return {name: float_of[layer] * time_of[name] / taken[layer] for name, layer in layer_of.items()}


def slower_line(item: Measurement) -> str:
    """That an artifact is slower than its float32 twin, in one line; "" when it is not, or was not timed."""
    speed = item.speed
    if speed is None or not speed.slower:
        return ""
    return (
        f"{item.artifact} in {item.runtime} is slower than its float32 twin on this machine: {speed.ratio:.2f} times "
        f"its speed (95 % interval {speed.low:.2f} to {speed.high:.2f})"
    )


def blame_lines(item: Measurement) -> tuple[str, ...]:
    """The ops to blame, a line each, the worst first; what is not known is said."""
    speed = item.speed
    if speed is None or not speed.slower:
        return ()
    lines = []
    for op in speed.blame:
        took = "" if op.ms is None else f" {op.ms:.3f} ms"
        if op.float_ms is not None:
            took += f", in float32 {op.float_ms:.3f} ms"
        lines.append(f"{op.count} x {op.op} ({op.dtype}){took}: {op.reason}")
    if not lines and speed.times_ops:
        lines.append("no kind of op stands out")
    elif not lines:
        lines.append("all its ops are in the target's precision: their kernels are slower here than the float ones")
    if not speed.times_ops:
        lines.append(f"{item.runtime} does not measure how long each op takes")
    return tuple(lines)
