"""Records that a sweep exchanges with the processes that make its cells."""

from __future__ import annotations

import socket
from pathlib import Path

from edgec.frozen import Frozen
from edgec.project.spec import Project
from edgec.target.spec import Target


class CellRequest(Frozen):
    """A cell to make, by any process that sees the same files."""

    key: str
    label: str
    """Its coordinates in words."""
    target: Target
    project: Project
    root: Path
    """The project's folder."""
    out: Path
    """The folder of bundles."""
    working_folder: Path
    """That relative paths of the project are resolved in."""
    threads: int
    """CPU threads of each process."""
    inputs: dict[Path, str]
    """SHA-256 (hex) of the files that are part of the key."""

    @property
    def scratch(self) -> str:
        """Name of the cell's workspace, with the host that makes it: process numbers there identify leftovers."""
        return f"sweep/hosts/{socket.gethostname()}/{self.key[:16]}"

    @property
    def log(self) -> Path:
        """Log file of the workspace."""
        return self.out / ".work" / self.scratch / "build.log"


class WorkerRequirements(Frozen):
    """What a worker of a cluster must have in common with the process that requests cells."""

    environment: dict[str, str]
    """`edgec.sweep.environment.environment_of` of that process."""
    backends: tuple[str, ...]
    """Backends that make the cells."""
    lease: Path
    """File that exists as long as the sweep waits for its cells."""
