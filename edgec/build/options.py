"""How targets are built, whatever they are."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.lock.follow import UNLOCKED, LockUse


@dataclass(frozen=True)
class BuildOptions:
    """How a target is built."""

    threads: int = 1
    """CPU threads of each toolchain process."""
    jobs: int | None = None
    """Artifacts that are made at the same time; None: as many as the machine has room for (`edgec.build.room`)."""
    all_or_nothing: bool = False
    """Write no bundle when an artifact cannot be made or misses a gate."""
    lock: LockUse = UNLOCKED
    retime: bool = False
    """Take all times anew, also those that an earlier build has taken of the same artifacts on this machine."""
    check_reproducible: bool = False
    """Build a second time, and write no bundle unless both are byte for byte the same."""
