"""The folders of a build under ``<out>/.work``, and errors that name its log or its model."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.errors import EdgecError, ModelError, ProjectError

_LONGEST = 400
"""Characters of a library's own words that are told."""


@contextmanager
def workspace(out: Path, target: str) -> Iterator[tuple[Path, Path]]:
    """A private scratch folder for one build, and its log; the folder goes when the build ends, the log stays.

    Both are under ``<out>/.work/``, on the file system of the bundles, and two builds never share a folder. What a
    killed build left behind is never read again, and is removed by the next build that sees its owner gone.
    """
    base = (out / ".work" / target).absolute()
    base.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
    log = base / "build.log"
    log.write_text("")
    try:
        yield folder, log
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Errors name the log when there is anything in it; code of the project that ends the process is an error too."""
    try:
        yield
    except EdgecError as error:
        error.log = error.log or (str(log) if log.stat().st_size else "")
        raise
    except SystemExit as leave:
        frames = traceback.extract_tb(leave.__traceback__)
        raise ProjectError(
            f"code of the project ended the process: sys.exit({leave.code!r})",
            where=f"{frames[-1].filename}:{frames[-1].lineno}",
            hint='guard what belongs to a script with: if __name__ == "__main__"',
        ) from leave


@contextmanager
def model_step(verb: str, model: str) -> Iterator[None]:
    """What is done with the user's model in this process; libraries that it makes fail are explained as its own fault.

    Args:
        verb: what is done: ``load``, ``run``.
        model: its path, as the project has it.

    Raises:
        ModelError: whatever else than an `EdgecError` was raised; its traceback goes to standard error.
    """
    try:
        yield
    except EdgecError:
        raise
    except Exception as exc:
        traceback.print_exc()
        words = " ".join(f"{type(exc).__name__}: {exc}".split())[:_LONGEST]
        hint = "the log has the traceback; if the model is in order, please report it with the log"
        raise ModelError(f"edgec cannot {verb} this model ({words})", where=model, hint=hint) from exc


def checkpoint_folder(out: Path) -> Path:
    """Where training leaves what it has reached, for a build that is started again."""
    return out.absolute() / ".work" / "checkpoints"


def pruned_folder(out: Path) -> Path:
    """Where pruned models are kept from build to build."""
    return out.absolute() / ".work" / "pruned"


def cache_folder(out: Path) -> Path:
    """Where results are kept from run to run, under the folder of bundles."""
    return out.absolute() / ".work" / "cache"


def _remove_abandoned(base: Path) -> None:
    for folder in base.iterdir():
        owner = folder.name.partition("-")[0]
        if folder.is_dir() and owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
