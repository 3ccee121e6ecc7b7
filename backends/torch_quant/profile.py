"""Where the time of a TorchScript artifact goes, by torch's own profiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from edgec.backends.interface import OpRecord, OpTime


def op_times(call: Callable[[], Any], ops: Sequence[OpRecord], runs: int) -> tuple[OpTime, ...]:
    """Median time of each op of the file, in execution order.

    The profiler reports kernels in the order in which they run, but not their place in the file; so the ops of a
    kind are matched with its kernels in order. Ops that call no kernel, or that torch fuses into others, take no time
    of their own; a kind of which there are more or fewer kernels than ops is left out.

    Args:
        call: one inference.
        ops: of the file.
        runs: inferences.
    """
    from torch.profiler import ProfilerActivity, profile

    taken: dict[str, list[float]] = {op.name: [] for op in ops}
    by_kind: dict[str, list[str]] = {}
    for op in ops:
        by_kind.setdefault(_kernel(op.name), []).append(op.name)
    call()
    for _ in range(runs):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            call()
        times: dict[str, list[float]] = {}
        for event in sorted(seen.events(), key=lambda item: float(item.time_range.start)):
            parent = event.cpu_parent
            # kernels stand under the call of the module; what stands under them is part of them
            if parent is not None and parent.cpu_parent is None:
                times.setdefault(str(event.name).rpartition("::")[2].lstrip("_"), []).append(
                    float(event.cpu_time_total)
                )
        for kind, names in by_kind.items():
            if len(times.get(kind, ())) == len(names):
                for name, time in zip(names, times[kind], strict=True):
                    taken[name].append(time)
    return tuple(
        OpTime(name=op.name, op=op.op, layer=op.layer, microseconds=median(taken[op.name]))
        for op in ops
        if taken[op.name]
    )


def _kernel(name: str) -> str:
    """``conv2d_relu_12`` -> ``conv2d_relu``: what `audit.executed_ops` put a number after."""
    kind = name.rpartition("_")[0].lstrip("_")
    return "convolution" if kind == "conv_transpose" else kind  # one float kernel for both
