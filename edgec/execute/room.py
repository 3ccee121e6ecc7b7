"""How much this machine has room for at once."""

from __future__ import annotations

import os

JOB_MB = 2500
"""Memory that making one artifact may take: TensorFlow's converter with a model of some megabytes."""


def available_mb() -> int:
    """Memory that is free now."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def room_for(threads: int, *, memory_mb: int | None = None) -> int:
    """Jobs to run at once, at least one: by CPUs, and by memory at `JOB_MB` each.

    Args:
        threads: CPU threads of each.
        memory_mb: memory for all of them; None: what is free.
    """
    memory = available_mb() if memory_mb is None else memory_mb
    return max(1, min(len(os.sched_getaffinity(0)) // threads, memory // JOB_MB))
