"""Which ops make an artifact slower than its float32 twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgec.backend.protocol import OpRecord, OpTime
from edgec.verify.records import Measurement, SlowOp

MOST = 8
"""Kinds of ops that are named."""
SMALL = 0.02
"""Share of the artifact's time below which a kind of op is not worth naming."""
CONVERTS = "converts between float and integers, which the float model does not need"
SLOW_KERNEL = "its kernel is slower here than the float one"


@dataclass(frozen=True)
class Profile:
    """An artifact's ops, and their times where the runtime tells them."""

    ops: Sequence[OpRecord]
    times: Sequence[OpTime] | None = None


def slow_ops(artifact: Profile, twin: Profile) -> tuple[SlowOp, ...]:
    """Casts, ops that are not in the target's precision, and kernels that are slower than the twin's.

    Ops are alike when op, dtype and reason are equal. With times they come in the order of what they cost over the
    twin's same layers (casts and ops outside the target's precision: of what they take at all), and small ones are
    left out; without, in the order of their number.
    """
    kinds: dict[tuple[str, str, str], list[OpRecord]] = {}
    for record in artifact.ops:
        kinds.setdefault((record.op, record.dtype, record.reason), []).append(record)
    if artifact.times is None:
        named = [
            SlowOp(op=op, dtype=dtype, count=len(records), ms=None, float_ms=None, reason=reason or CONVERTS)
            for (op, dtype, reason), records in kinds.items()
            if reason or dtype == "cast"
        ]
        return tuple(sorted(named, key=lambda item: -item.count)[:MOST])
    time_of, twin_time = _milliseconds(artifact.times), _layer_times(twin)
    total = sum(item.microseconds for item in artifact.times) / 1000
    costs: list[tuple[float, SlowOp]] = []
    for (op, dtype, reason), records in kinds.items():
        ms = sum(map(time_of, records))
        layers = {record.layer for record in records}
        float_ms = None
        if dtype != "cast" and all(layer in twin_time for layer in layers):
            float_ms = sum(twin_time[layer] for layer in layers)
        if dtype == "cast" or reason:
            cost, why = ms, reason or CONVERTS
        elif float_ms is not None:
            cost, why = ms - float_ms, SLOW_KERNEL
        else:
            continue
        if cost > SMALL * total:
            costs.append((cost, SlowOp(op=op, dtype=dtype, count=len(records), ms=ms, float_ms=float_ms, reason=why)))
    return tuple(item for _, item in sorted(costs, key=lambda pair: -pair[0])[:MOST])


def _milliseconds(times: Sequence[OpTime]) -> Callable[[OpRecord], float]:
    """By name; ops of equal name share its time evenly."""
    told: dict[str, float] = {}
    count: dict[str, int] = {}
    for item in times:
        told[item.name] = told.get(item.name, 0.0) + item.microseconds / 1000
        count[item.name] = count.get(item.name, 0) + 1
    return lambda record: told.get(record.name, 0.0) / count.get(record.name, 1)


def _layer_times(twin: Profile) -> dict[str, float]:
    """Milliseconds of each layer that has a name."""
    found: dict[str, float] = {}
    for item in twin.times or ():
        if item.layer:
            found[item.layer] = found.get(item.layer, 0.0) + item.microseconds / 1000
    return found


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
    if not speed.blame:
        return ("no kind of op stands out",)
    lines = []
    for op in speed.blame:
        took = "" if op.ms is None else f" {op.ms:.3f} ms"
        if op.float_ms is not None:
            took += f", in float32 {op.float_ms:.3f} ms"
        lines.append(f"{op.count} x {op.op} ({op.dtype}){took}: {op.reason}")
    if all(op.ms is None for op in speed.blame):
        lines.append(f"{item.runtime} does not tell the time of each op")
    return tuple(lines)
