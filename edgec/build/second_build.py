"""The second build of `edgec.build.reproduce`, as a task of a worker process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgec.build.build import build_target
from edgec.build.options import BuildOptions
from edgec.events import subscriber_of
from edgec.lock.follow import LockUse
from edgec.plan.plan import make_plan
from edgec.project.spec import Project
from edgec.target.load import load_target
from edgec.workers.worker import Progress


def build_again(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Build a target.

    Args:
        payload: ``name`` (of the target), ``project`` (record), ``root`` and ``lock`` (paths), ``locked``, ``threads``,
            ``all_or_nothing``, ``umask``.
        progress: receives the steps.

    Raises:
        EdgecError: as of `edgec.build.build.build_target`.
    """

    os.umask(payload["umask"])
    root = Path(payload["root"])
    plan = make_plan(load_target(payload["name"], root), Project.model_validate_json(payload["project"]))
    options = BuildOptions(
        threads=payload["threads"],
        jobs=1,
        all_or_nothing=payload["all_or_nothing"],
        lock=LockUse(payload["locked"], Path(payload["lock"])),
    )
    build_target(plan, root, options, subscriber_of(progress))
    return {}
