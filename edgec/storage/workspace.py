"""The folders of a build under ``<out>/.work``, and errors that name its log or its model."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.errors import EdgecError, ModelError, ProjectError
from edgec.storage.temporary import private_folder

_LONGEST = 400
"""Characters of a library's message that are shown."""


@contextmanager
def workspace(out: Path, target: str) -> Iterator[tuple[Path, Path]]:
    """A private scratch folder for one build, and its log; the folder goes when the build ends, the log stays.

    Both are under ``<out>/.work/``, on the file system of the bundles, and two builds never share a folder. What a
    killed build left behind is never read again, and is removed by the next build that sees its owner gone.
    """
    base = (out / ".work" / target).absolute()
    base.mkdir(parents=True, exist_ok=True)
    with private_folder(base) as folder:
        log = base / "build.log"
        log.write_text("")
        yield folder, log


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Attach the log, unless it is empty, to errors; turn a `sys.exit` of the project's code into an error."""
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
    """Run a step on the user's model in this process, and report exceptions of libraries as errors of the model.

    Args:
        verb: ``load`` or ``run``.
        model: its path, as the project has it.

    Raises:
        ModelError: the step raised an exception that is not an `EdgecError`; its traceback goes to standard error.
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
    """Folder of training checkpoints, from which a restarted build continues."""
    return out.absolute() / ".work" / "checkpoints"


def pruned_folder(out: Path) -> Path:
    """Folder of pruned models, kept between builds."""
    return out.absolute() / ".work" / "pruned"
