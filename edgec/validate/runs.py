"""Running artifacts on the samples, each in a process of its own, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgec.dataset.spool import Spool
from edgec.errors import CONCERNS_ALL, EdgecError
from edgec.validate.records import RunResult
from edgec.validate.sides import Runnable, Side
from edgec.verify.outputs import Outputs, open_outputs
from edgec.verify.requests import RunAnswer, RunRequest
from edgec.verify.run import imports_of
from edgec.workers.worker import Progress, call


@dataclass
class Ran:
    """One artifact in one runtime, and what it gave, or why it gave nothing."""

    side: Side
    runnable: Runnable
    outputs: Outputs = field(default_factory=dict)
    failure: str = ""


def run_one(
    side: Side, runnable: Runnable, spool: Spool, out: Path, log: Path, threads: int, progress: Progress
) -> Ran:
    """Run one artifact; that its runtime is missing, or cannot run it, is told in the result.

    Args:
        side: its bundle, whose digests are right.
        runnable: the artifact.
        spool: the samples.
        out: folder for its outputs.
        log: receives what its process prints.
        threads: CPU threads of its runtime.
        progress: told each step.

    Raises:
        StorageError: there is no room for the outputs.
    """
    artifact = runnable.artifact
    try:
        result = call(
            "edgec.verify.run:run_artifact",
            RunRequest(
                artifact=artifact,
                file=runnable.file,
                runtime=runnable.runtime,
                spool=spool.folder,
                out=out,
                threads=threads,
            ),
            RunAnswer,
            log=log,
            what=f"{artifact.file} in {runnable.runtime}",
            threads=threads,
            imports=imports_of(artifact),
            on_progress=lambda step: progress(f"{side.name}/{artifact.file}: {step}"),
        ).value
    except EdgecError as error:
        if isinstance(error, CONCERNS_ALL):
            raise
        return Ran(side, runnable, failure=error.what)
    if result.failure:
        return Ran(side, runnable, failure=result.failure)
    return Ran(side, runnable, outputs=open_outputs(result.outputs))


@dataclass(frozen=True)
class Reference:
    """What the artifacts of a bundle are compared with."""

    ran: Ran
    is_float: bool

    @property
    def words(self) -> str:
        """For people."""
        name = f"{self.ran.side.name}/{self.ran.runnable.artifact.file} in {self.ran.runnable.runtime}"
        if self.is_float:
            return f"the float model ({name})"
        return f"{name}, for no bundle has a float twin: set [bundle] float_twin = true"


def reference_of(side: Side, ran: Sequence[Ran]) -> Reference | None:
    """The float model: the bundle's own, or another bundle's of the same model; else whatever came first."""
    worked = [item for item in ran if item.outputs]
    floats = [item for item in worked if item.runnable.is_float]
    same = [item for item in floats if item.side.manifest.source == side.manifest.source]
    own = [item for item in floats if item.side is side]
    if own or same:
        return Reference((own or same)[0], is_float=True)
    return Reference(worked[0], is_float=False) if worked else None


def begun(item: Ran, reference: Reference | None) -> RunResult:
    """The record of a run, without anything that its outputs tell."""
    artifact = item.runnable.artifact
    result = RunResult(
        bundle=item.side.name,
        target=item.side.manifest.target.name,
        artifact=artifact.file,
        precision=artifact.precision,
        runtime=item.runnable.runtime,
        failure=item.failure,
    )
    if reference is None or reference.ran is not item:
        return result
    return result.model_copy(update={"role": "float" if reference.is_float else "reference"})
