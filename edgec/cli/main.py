"""`edgec`: finds the verb, runs it, and turns every error into a message and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgec.cli.echo import echo
from edgec.cli.report_error import report_error
from edgec.cli.stop import Stop
from edgec.errors import EdgecError, InternalError, StoppedError, StorageError, UsageError, WorkerError, storage_failure
from edgec.storage.own_folder import new_log
from edgec.toml_source import suggest

VERBS = (
    "build",
    "check",
    "explain",
    "analyze",
    "sweep",
    "targets",
    "backends",
    "cache",
    "bench",
    "inspect",
    "verify",
    "compare",
    "validate",
    "keygen",
    "sign",
    "publish",
    "pull",
    "pack",
    "unpack",
    "init",
    "makefile",
)
"""Verbs in the order of `edgec --help`; each is a module of this package with a click command ``command``."""

LOG_LINES = 15
"""Lines of a toolchain's log that are shown when it crashed."""


class VerbGroup(click.Group):
    """Imports a verb's module only when it is asked for, so that `edgec --help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in reading order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, or None."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"edgec.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click's, with "did you mean" for a misspelt verb."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise UsageError(f'no verb "{args[0]}"', hint=suggest(args[0], VERBS) or f"verbs: {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgec")
def cli() -> None:
    """Compile a trained PyTorch or ONNX model to verified edge bundles."""


def main() -> None:
    """Entry point of the ``edgec`` command."""
    stop = Stop()
    stop.install()
    code = _run(sys.argv[1:], stop)
    if stop.wanted:  # threads of the project's code do not keep the process
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors go to standard error."""
    stop = Stop()
    stop.install()
    try:
        return _run(arguments, stop)
    finally:
        stop.remove()


def _run(arguments: Sequence[str], stop: Stop) -> int:
    try:
        try:
            code = cli.main(list(arguments), prog_name="edgec", standalone_mode=False)
        except BaseException as problem:
            if not stop.wanted:
                return _explained(problem)
        finally:
            stop.ended = True
        if not stop.wanted:
            return code if isinstance(code, int) else 0  # of a verb which has printed its own error
    except KeyboardInterrupt:  # a moment before the end
        stop.ended = True
    with contextlib.suppress(OSError):  # the terminal may be gone
        report_error(StoppedError(f"stopped{stop.by}; no unfinished bundle was left"))
    return StoppedError.exit_code


def _explained(problem: BaseException) -> int:
    """Show an error; returns its exit code."""
    try:
        raise problem
    except EdgecError as error:
        return _report(storage_failure(error) or error)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as problem:
        echo(problem.format_message(), err=True)
        return UsageError.exit_code
    except click.UsageError as problem:
        command = problem.ctx.command_path if problem.ctx else "edgec"
        return _report(UsageError(problem.format_message(), hint=f"{command} --help"))
    except click.ClickException as problem:
        return _report(UsageError(problem.format_message()))
    except (KeyboardInterrupt, click.Abort):
        return _report(StoppedError("stopped; no unfinished bundle was left"))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away (edgec targets | head)
        return 0
    except Exception as problem:
        return _report(storage_failure(problem) or _refused(problem) or _internal())


def _refused(problem: Exception) -> StorageError | None:
    """The error of a path that the file system refused, which no other code explains; None for others."""
    if not isinstance(problem, OSError) or problem.filename is None:
        return None
    hint = "if nothing is wrong with this path, please report it with the log"
    what = f"the file system refuses: {(problem.strerror or str(problem)).lower()}"
    return StorageError(what, where=os.fsdecode(problem.filename), hint=hint, log=_traceback())


def _internal() -> InternalError:
    what = traceback.format_exc().strip().splitlines()[-1]
    log = _traceback()
    hint = "please report it with the log" if log else "please report it; there is no folder for a log: set TMPDIR"
    return InternalError(f"a defect of edgec: {what}", hint=hint, log=log)


def _traceback() -> str:
    """The file that the traceback of the exception being handled was written to; empty where there is no room."""
    try:
        log = new_log("internal")
        log.write_text(traceback.format_exc(), encoding="utf-8")
    except (OSError, StorageError):
        return ""
    return str(log)


def _report(error: EdgecError) -> int:
    report_error(error)
    if isinstance(error, (WorkerError, InternalError)) and error.log:
        _show_end(Path(error.log))
    return error.exit_code


def _show_end(log: Path) -> None:
    """The last lines of a toolchain's log: a CI run may keep nothing else."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines[-LOG_LINES:]:
        echo(f"  | {line}", err=True)
