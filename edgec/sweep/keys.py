"""Keys of cells: digests of everything that a cell is made from, found without running any code of the project."""

from __future__ import annotations

import os
from pathlib import Path

from edgec.build.depfile import dependencies
from edgec.bundle.write import digest_file
from edgec.dataset.python_files import python_files
from edgec.dataset.sample_source import missing
from edgec.errors import ModelError
from edgec.frozen import digest_json
from edgec.plan.plan import Plan
from edgec.project.load import PROJECT_FILE, split_entry
from edgec.project.spec import Project
from edgec.sweep.environment import environment_of


class Keys:
    """Keys of one sweep; each file is read once.

    Args:
        root: folder that the project's paths are relative to.
        threads: CPU threads of each process, with which float kernels differ in the last bits.
        out: the folder of bundles, whose Python files are what was built.
    """

    def __init__(self, root: Path, threads: int, out: Path | None = None) -> None:
        self._root, self._threads = root, threads
        self._out = out.resolve() if out else None
        self._digests: dict[Path, str] = {}

    def key(self, plan: Plan) -> str:
        """SHA-256 (hex) of all that a cell's artifacts and figures depend on, but for what its code reads.

        The target's name is no part: variants of two targets may be the same.

        Raises:
            ModelError, DatasetError: a file that the project names is missing.
        """
        target = plan.target.model_dump(mode="json", exclude={"name", "description", "budget", "bench"})
        project = used(plan)
        backends = tuple(item.backend.name for item in plan.emits)
        return digest_json(
            {
                "format": 1,
                "target": target | {"threads": plan.target.bench.threads},
                "project": project.model_dump(mode="json"),
                "samples": plan.calibration_samples,
                "files": {os.path.relpath(path, self._root): sha256 for path, sha256 in self.files(plan).items()},
                "environment": dict(environment_of(backends)),
                "threads": self._threads,
            }
        )

    def files(self, plan: Plan) -> dict[Path, str]:
        """SHA-256 (hex) of every file that the plan names, and of the Python files that its entries may import."""
        project = used(plan)
        found = dependencies(
            project, self._root, (), calibrated=project.calibration is not None, trained=project.train is not None
        )
        paths = {path.absolute() for path in found if path.name != PROJECT_FILE}
        for path in sorted(paths):
            if not path.exists():
                named = {self._absolute(project.model.path), self._absolute(project.model.weights)}
                raise ModelError("no such file", where=str(path)) if path in named else missing(path)
        for path in list(paths):
            if path.suffix == ".py":
                paths.update(one for one in python_files(path.parent) if self._out not in one.resolve().parents)
        return {path: self._digest(path) for path in sorted(paths) if path.is_file()}

    def _absolute(self, name: str | None) -> Path | None:
        if name is None:
            return None
        entry = split_entry(name)
        return Path(os.path.relpath(self._root / (entry[0] if entry else name))).absolute()

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = digest_file(path).sha256
        return self._digests[path]


def used(plan: Plan) -> Project:
    """The part of a plan's project that the plan makes use of."""
    project = plan.project
    ladder = {rung.name for item in plan.emits for rung in item.ladder}
    unused: dict[str, None] = {}
    if plan.calibration_samples is None:
        unused["calibration"] = None
    if "training" not in ladder and not plan.target.prune.prunes:
        unused["train"] = None
    return project.model_copy(update=unused)


def backends_of(plans: list[Plan]) -> tuple[str, ...]:
    """Names of all backends that make something of `plans`."""
    return tuple(dict.fromkeys(item.backend.name for plan in plans for item in plan.emits))
