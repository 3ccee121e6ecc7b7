"""Training samples as a build reads them: only when a rung of the ladder asks for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.sample_source import missing
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.model.spec import TensorSpec
from edgec.plan.plan import Plan
from edgec.project.load import split_entry
from edgec.project.spec import TrainSpec
from edgec.verify.records import RungRecord
from edgec.workers.worker import Progress


class TrainingSamples:
    """Training data that is read when first asked for: it may be large, and most builds never train.

    Args:
        plan: seed and preprocessing.
        spec: what to read.
        inputs: what the model takes.
        evaluation: samples that must not be among them.
        folder: the spool to make.
        root: folder that the project's paths are relative to.
        progress: receives a step when it is read.

    Raises:
        DatasetError: there is no such data.
    """

    def __init__(
        self,
        plan: Plan,
        spec: TrainSpec,
        inputs: tuple[TensorSpec, ...],
        evaluation: Spool,
        folder: Path,
        root: Path,
        progress: Progress,
    ) -> None:
        entry = split_entry(spec.data)
        path = root / (entry[0] if entry else spec.data)
        if not path.exists():
            raise missing(path)
        self._plan, self._spec, self._inputs, self._evaluation = plan, spec, inputs, evaluation
        self._folder, self._root, self._progress = folder, root, progress
        self._lock = threading.Lock()
        self._spool: Spool | None = None

    def read(self) -> Spool:
        """The samples; without those that are also evaluation samples.

        Raises:
            DatasetError: they are empty, not finite, or do not fit the model.
            DataLeakError: most are evaluation samples too.
        """
        with self._lock:
            if self._spool is None:
                self._spool = self._read()
            return self._spool

    def _read(self) -> Spool:
        project, spec = self._plan.project, self._spec
        self._progress(f"read training samples of {spec.data}")
        samples = write_spool(
            spec, project.preprocess, self._inputs, self._folder, self._root,
            samples=spec.samples, seed=project.build.seed, what="training",
        )  # fmt: skip
        check_classes(samples, self._evaluation)
        return check_disjoint(samples, self._evaluation, "training")


def used_training_samples(plan: Plan, training: TrainingSamples | None, rungs: Sequence[RungRecord]) -> Spool | None:
    """The training samples, where pruning or a rung of the ladder used them; read now when they were not yet.

    Args:
        plan: of the build.
        training: None: the project has none.
        rungs: of the artifacts that were made.

    Raises:
        DatasetError: they cannot be read.
    """
    trained = any(rung.rung == "training" and rung.recipe is not None for rung in rungs)
    if training is None or not (trained or plan.prune is not None):
        return None
    return training.read()
