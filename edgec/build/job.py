"""What the steps of one build share: where they work, what they are made from, and what they are measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.storage.cache import Cache
from edgec.check.records import Finding
from edgec.dataset.spool import Spool
from edgec.train.training_data import TrainingSamples
from edgec.ladder.cells import Cells, identify
from edgec.lock.file import LockedArtifact
from edgec.machine import Machine
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassRecord
from edgec.plan.plan import Plan, PlannedEmit
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.workers.worker import Progress


@dataclass(frozen=True)
class BuildData:
    """What a build was made from."""

    model: FloatModel
    """As loaded, before any pass."""
    notes: tuple[str, ...]
    """What loading and tracing the model had to assume."""
    calibration: Spool | None
    evaluation: Spool
    training: TrainingSamples | None
    findings: tuple[Finding, ...] = ()
    """What there was to tell before the first artifact."""


@dataclass(frozen=True)
class Inputs:
    """What one target is built from, which others of the project may share."""

    model: FloatModel
    """As loaded, before any pass."""
    calibration: Spool | None
    evaluation: Spool
    training: TrainingSamples | None
    metric: Metric
    reference: Outputs | None = None
    """The float model's outputs on the evaluation samples, where it was run already."""


@dataclass(frozen=True)
class Job:
    """What all steps of one build share."""

    plan: Plan
    root: Path
    """Folder that the project's paths are relative to."""
    scratch: Path
    """Private folder of this build; the model after the portable passes is in its ``model``."""
    log: Path
    """Receives everything that toolchains print."""
    threads: int
    """CPU threads of each process."""
    jobs: int
    """Artifacts that are made at once. Times are always taken one after the other."""
    progress: Progress
    """Told each step of the build as it begins, one short line."""
    loaded: Callable[[BuildData], None] = lambda data: None
    """Told what the build is made from, before anything is made of it."""
    found: Callable[[Finding], None] = lambda finding: None
    """Told what is doubtful about model and samples, after `loaded` and before anything is made."""
    metric_ran: Callable[[Mapping[str, str]], None] = lambda reads: None
    """Told what the metric read besides the code that `edgec.project.record.code_digests` knows; after `loaded`."""
    locked: Callable[[PlannedEmit], LockedArtifact | None] = lambda item: None
    """What an earlier build of the same inputs has settled on; asked after `loaded` and `metric_ran`."""
    bound: bool = False
    """Whether nothing else will do."""
    checkpoints: Path = Path()
    """Folder of what training has reached, kept between builds."""
    cache: Cache | None = None
    """Scores of recipes that earlier runs have left."""
    in_full: bool = True
    """Whether finished artifacts are timed, and layers compared with the float model's: a sweep does without."""
    inputs: Inputs | None = None
    """What was read beforehand, for several targets; None: it is to be read."""

    def cells(self, judged: Judged, item: PlannedEmit) -> Cells | None:
        """What is kept of one artifact."""
        if self.cache is None:
            return None
        data, seed = judged.data, self.plan.project.build.seed
        identity = identify(
            self.plan.target, item, judged.portable, data.calibration, judged.machine, seed, self.threads
        )
        return Cells(self.cache, identity)


@dataclass(frozen=True)
class Judged:
    """What every artifact is measured against."""

    data: BuildData
    reference: Outputs
    """Of the float model, on the evaluation samples."""
    metric: Metric
    machine: Machine
    portable: tuple[PassRecord, ...]
    """Passes over the float model that all artifacts have in common."""
