"""The second build of `edgec.build.reproduce`, as a task of a worker process."""

from __future__ import annotations

import os

from edgec.build.build import build_target
from edgec.build.options import BuildOptions
from edgec.build.reproduce import SecondBuildRequest
from edgec.events import subscriber_of
from edgec.lock.follow import LockUse
from edgec.plan.plan import make_plan
from edgec.target.load import load_target
from edgec.workers.records import Done
from edgec.workers.worker import Progress


def build_again(request: SecondBuildRequest, progress: Progress) -> Done:
    """Build a target.

    Raises:
        EdgecError: as of `edgec.build.build.build_target`.
    """
    os.umask(request.umask)
    plan = make_plan(load_target(request.target, request.root), request.project)
    lock = LockUse(request.locked, request.lock)
    options = BuildOptions(request.threads, jobs=1, all_or_nothing=request.all_or_nothing, lock=lock)
    build_target(plan, request.root, options, subscriber_of(progress))
    return Done()
