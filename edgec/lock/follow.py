"""How a build of one target follows ``edgec.lock``, is bound by it, and renews it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.dataset.spool import Spool
from edgec.errors import LockError, ProjectError
from edgec.lock.file import LOCK, RESTORE, Lock, LockedArtifact, LockedTarget, OldLock, read_lock, write_lock
from edgec.lock.inputs import (
    IMPORTED,
    METRIC_READS,
    TRAINING,
    differences,
    inputs_before,
    inputs_loaded,
    is_only_locked,
)
from edgec.model.spec import ModelSource
from edgec.plan.plan import Plan
from edgec.plan.rungs import reason_against
from edgec.project.load import PROJECT_FILE
from edgec.train.training_data import TrainingSamples
from edgec.workers.worker import Progress

_RENEW = "undo the change, or build without --locked: that renews edgec.lock"


@dataclass(frozen=True)
class LockUse:
    """What a build does with the lock."""

    locked: bool = False
    """Fail when anything differs from it; such a build never writes it."""
    file: Path | None = None
    """Read this one instead of the project's, and write none."""


UNLOCKED = LockUse()


class TargetLock:
    """The part of edgec.lock that belongs to the target of one build.

    Args:
        plan: what is built.
        root: the project's folder.
        use: whether the lock binds the build.
        threads: CPU threads of each toolchain process.

    Raises:
        ProjectError: the file is damaged, or of a newer edgec.
    """

    def __init__(self, plan: Plan, root: Path, use: LockUse, threads: int) -> None:
        self._plan, self._root, self._use = plan, root, use
        self._file = use.file or root / LOCK
        self._before = inputs_before(plan, root, threads)
        self._lock = read_lock(self._file)
        self._target: LockedTarget | None = None
        if isinstance(self._lock, Lock):
            self._target = self._lock.targets.get(plan.target.name)
        self._followed: Mapping[str, LockedArtifact] = {}
        self._reads: dict[str, str] = {}
        self._present: dict[str, str] = {}

    def check_plan(self) -> None:
        """Compare what is known before anything is loaded, when the build is bound to the lock.

        Raises:
            LockError: there is no lock, it lacks the target or an artifact, or anything differs that is known by now.
            ProjectError: it holds a recipe that no build of these inputs writes.
        """
        if not self._use.locked:
            return
        name = self._plan.target.name
        hint = "build once without --locked, and keep edgec.lock under version control"
        if not self._file.exists():
            beside = "" if (self._root / PROJECT_FILE).exists() else f": it is kept beside an {PROJECT_FILE}"
            raise LockError(f"there is no {LOCK}{beside}", where=str(self._file), hint=hint)
        if isinstance(self._lock, OldLock):
            raise LockError("an earlier edgec wrote it, which locked less", where=str(self._file), hint=hint)
        if self._target is None:
            raise LockError(f"{name} is not in it", where=str(self._file), hint=hint)
        wrong = differences(self._of(self._before), self._before)
        files = self._files()
        wrong |= {file: "not locked -> to be built" for file in files if file not in self._target.artifacts}
        wrong |= {file: "locked -> not of the target" for file in self._target.artifacts if file not in files}
        self._refuse(wrong)
        self._check_recipes()

    @property
    def is_binding(self) -> bool:
        """Whether the build may use no other recipes."""
        return self._use.locked

    def check_inputs(
        self,
        source: ModelSource,
        calibration: Spool | None,
        evaluation: Spool,
        training: TrainingSamples | None,
        progress: Progress,
    ) -> None:
        """Compare the model and the samples, once they are read and before anything is made of them.

        Args:
            source: of the model.
            calibration, evaluation: the samples.
            training: read only where the lock names training samples.
            progress: receives why the lock no longer holds.

        Raises:
            LockError: something differs, and the build is bound to the lock.
            ProjectError: the lock holds a recipe that no build of these inputs writes.
        """
        samples = {"calibration": calibration, "evaluation": evaluation}
        self._present = self._before | inputs_loaded(source, samples)
        if isinstance(self._lock, OldLock) and self._plan.target.name in self._lock.targets:
            progress(f"{LOCK} was written by an earlier edgec: search again, and replace it")
        if self._target is None:
            return
        present = self._present
        if training is not None and TRAINING in self._target.inputs:
            present = present | inputs_loaded(source, {TRAINING: training.read()})
        known = {name: value for name, value in self._target.inputs.items() if not name.startswith(METRIC_READS)}
        if self._holds(differences(known, present), progress):
            self._check_recipes()
            self._followed = self._target.artifacts

    def check_metric(self, reads: Mapping[str, str], progress: Progress) -> None:
        """Compare the files that the metric reads, once it has judged the float model.

        Args:
            reads: SHA-256 (hex) by path.
            progress: receives why the lock no longer holds.

        Raises:
            LockError: something differs, and the build is bound to the lock.
        """
        self._reads = {f"{METRIC_READS}{name}": digest for name, digest in reads.items()}
        if self._target is None or not self._followed:
            return
        known = {name: value for name, value in self._target.inputs.items() if name.startswith(METRIC_READS)}
        if not self._holds(differences(known, self._reads), progress):
            self._followed = {}

    def entries(self) -> Mapping[str, LockedArtifact]:
        """The locked recipes by file; empty when the lock does not hold."""
        return self._followed

    def renew(self, entries: Mapping[str, LockedArtifact], source: ModelSource, training: Spool | None) -> None:
        """Write what this build was made from and which recipes it has chosen; only for a project with an edgec.toml.

        Args:
            entries: by file; an artifact whose search was cut short is left out, since another build may find better.
            source: of the model.
            training: the training samples, where the build used them.

        Raises:
            StorageError: the file cannot be written.
        """
        if self._use.locked or self._use.file is not None or not (self._root / PROJECT_FILE).exists():
            return
        inputs = self._present | inputs_loaded(source, {TRAINING: training}) | self._reads
        write_lock(self._root, self._plan.target.name, inputs, entries, self._files())

    def _of(self, names: Collection[str]) -> dict[str, str]:
        """What is locked under these names, or can be known as early as they are."""
        late = (TRAINING, "calibration", "evaluation")
        assert self._target is not None
        return {
            name: value
            for name, value in self._target.inputs.items()
            if name in names or not (name in late or name.startswith((IMPORTED, METRIC_READS)))
        }

    def _files(self) -> tuple[str, ...]:
        return tuple(item.file for item in self._plan.emits)

    def _holds(self, wrong: Mapping[str, str], progress: Progress) -> bool:
        """Whether recipes are followed though this differs; raises LockError when the build is bound to the lock."""
        if self._use.locked:
            self._refuse(wrong)
        names = [name for name in wrong if not is_only_locked(name)]
        if names:
            progress(f"{LOCK} no longer holds ({', '.join(names)} changed): search again")
        return not names

    def _check_recipes(self) -> None:
        assert self._target is not None
        for item in self._plan.emits:
            entry = self._target.artifacts.get(item.file)
            reason = reason_against(entry.recipe, entry.precision, self._plan.target, item.ladder) if entry else ""
            if reason:
                place = f"targets.{self._plan.target.name}.artifacts.{item.file}"
                raise ProjectError(f"{place}: {reason}", where=str(self._file), hint=RESTORE)

    def _refuse(self, wrong: Mapping[str, str]) -> None:
        if wrong:
            lines = "".join(f"\n  {name}: {change}" for name, change in wrong.items())
            raise LockError(f"not as {LOCK} says (locked -> now):{lines}", where=self._plan.target.name, hint=_RENEW)
