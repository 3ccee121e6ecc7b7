"""What all steps of one build share: the plan, its folders, its limits, and where events go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgec.events import Step, Subscriber, ignore
from edgec.plan.plan import Plan
from edgec.storage.cache import Cache, cache_limit, user_cache
from edgec.storage.workspace import checkpoint_folder, workspace


@dataclass(frozen=True)
class BuildContext:
    """What all steps of one build share."""

    plan: Plan
    root: Path
    """The project's folder, which its paths are relative to."""
    scratch: Path
    """Private folder of this build."""
    log: Path
    """Receives everything that toolchains print."""
    cache: Cache
    """Small results of earlier builds: what recipes score, what layers are sensitive."""
    steps: Cache
    """Steps of earlier builds, with their files."""
    checkpoints: Path
    """Folder of training checkpoints, kept between builds."""
    threads: int
    """CPU threads of each process."""
    jobs: int
    """Artifacts that are made at the same time. Times are always taken one after the other."""
    subscriber: Subscriber = ignore
    retime: bool = False
    """Whether times are taken anew that an earlier build has taken."""

    @property
    def model(self) -> Path:
        """Folder of the float model after the portable passes (`edgec.model.store`)."""
        return self.scratch / "model"

    def progress(self, step: str) -> None:
        """Report that a step begins."""
        self.subscriber(Step(step))


@contextmanager
def build_context(
    plan: Plan, root: Path, workplace: str, *, threads: int, jobs: int, subscriber: Subscriber, retime: bool = False
) -> Iterator[BuildContext]:
    """The context of a build with a private folder, which goes at the end; its log stays.

    Args:
        plan: what is built.
        root: the project's folder.
        workplace: name of the folder under ``<out>/.work``: the target's, where nothing else is needed.
        threads, jobs, subscriber, retime: as of `BuildContext`.
    """
    out = (root / plan.project.build.out).absolute()
    with workspace(out, workplace) as (scratch, log):
        context = BuildContext(
            plan, root, scratch, log, user_cache(), user_cache(), checkpoint_folder(out), threads, jobs, subscriber,
            retime,
        )  # fmt: skip
        limit = cache_limit()
        yield context
        if problem := context.steps.problem:
            context.progress(f"results are not kept for later builds: {problem}")
        if context.steps.stored:
            context.steps.trim(limit)
