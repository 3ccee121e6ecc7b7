"""How much this machine has room for at once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

JOB_MB = 2500
"""Memory that making one artifact may take: TensorFlow's converter with a model of some megabytes."""

_CGROUP_FILES = (
    ("0::", "", "memory.max", "memory.current", "inactive_file"),
    (":memory:", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""How lines of /proc/self/cgroup begin or go on, where the hierarchy is mounted, its files, and the
field of memory.stat with file pages that can be taken back: versions 2 and 1."""


def available_mb(system: Path = Path("/")) -> int:
    """Memory that processes can have now: what the kernel can free for them, within this process's control groups.

    Sources: MemAvailable in proc_meminfo(5), memory.max and memory.current in Documentation/admin-guide/cgroup-v2.rst,
    memory.limit_in_bytes and memory.usage_in_bytes in cgroup-v1/memory.rst.

    Args:
        system: root of the file system that ``proc`` and ``sys`` are in.
    """
    return max(0, min([_free(system), *_left_in_groups(system)])) >> 20


def _free(system: Path) -> int:
    """Bytes."""
    with contextlib.suppress(OSError, ValueError):
        for line in (system / "proc" / "meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_groups(system: Path) -> list[int]:
    """Bytes that each control group above this process may still take, those without a limit left out."""
    try:
        lines = (system / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        for mark, mount, most, used, cached in _CGROUP_FILES:
            if not (line.startswith(mark) if mark == "0::" else mark in line):
                continue
            base = system / "sys" / "fs" / "cgroup" / mount
            group = base / line.partition(mark)[2].lstrip("/")
            while group.is_relative_to(base):  # inside a container the path may be the host's: then the root is there
                with contextlib.suppress(OSError, ValueError):  # also of "max"
                    limit = int((group / most).read_text())
                    left.append(limit - int((group / used).read_text()) + _counted(group / "memory.stat", cached))
                group = group.parent
    return left


def _counted(stat: Path, field: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in stat.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == field:
                return int(value)
    return 0


def room_for(threads: int, *, memory_mb: int | None = None) -> int:
    """Jobs to run at once, at least one: by CPUs, and by memory at `JOB_MB` each.

    Args:
        threads: CPU threads of each.
        memory_mb: memory for all of them; None: what is free.
    """
    memory = available_mb() if memory_mb is None else memory_mb
    return max(1, min(room_on_cores(threads), memory // JOB_MB))


def room_on_cores(threads: int) -> int:
    """Jobs to run at once, at least one, by CPUs alone."""
    return max(1, len(os.sched_getaffinity(0)) // threads)
