"""Running the harness on this machine: a bundle's own, or edgec's copy of it for bundles that are not trusted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgec.bundle.bench.write import write_programs
from edgec.bundle.check import read_bundle
from edgec.errors import BundleError, ParityError, StorageError, UsageError, WorkerError
from edgec.storage.temporary import private_folder

_DAMAGED, _DIFFERENT, _NO_WRITE, _USAGE = 2, 3, 5, 64
"""Exit codes of bench.py."""


def bench_on_host(
    bundle: Path,
    *,
    artifact: str | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    runs: int | None = None,
    check_only: bool = False,
    out: Path | None = None,
    own: bool = True,
) -> dict[str, Any]:
    """Run ``bench/bench.py`` with this interpreter; None leaves a choice to the bundle.

    Args:
        bundle: its folder.
        artifact: file to run; the primary one by default.
        runtime: runtime to run it in; the artifact's first one by default.
        threads: CPU threads of the runtime.
        runs: timed runs.
        check_only: compare digests and outputs only.
        out: where the result is written as well; nothing is left behind by default.
        own: run the bundle's own programs, as a device does. Otherwise those of this edgec and its backends are run,
            and nothing of the bundle but its models in their runtimes.

    Returns:
        The result as docs/bench-result.md describes it.

    Raises:
        BundleError: this is not a bundle, or a file of it is missing or changed.
        TargetError, BackendUnavailableError: not `own`, and a backend of the bundle is not installed here.
        ParityError: the artifact computes something else here.
        UsageError: the bundle has no such artifact or runtime.
        StorageError: `out` cannot be written.
        WorkerError: the runtime is missing, refuses the artifact or crashes.
    """
    manifest = read_bundle(bundle)
    with private_folder() as folder:
        if not own:
            write_programs(Path(folder), [item.artifact for item in manifest.artifacts])
        harness = (bundle / "bench" if own else Path(folder)) / "bench.py"
        if not harness.is_file():
            raise BundleError(
                "the bundle has no bench/bench.py", where=str(bundle), hint="build it again with: edgec build"
            )
        result = (out or Path(folder, "result.json")).absolute()
        command = [sys.executable, str(harness), "--out", str(result)]
        command += [] if own else ["--bundle", str(bundle)]
        stated = {"--artifact": artifact, "--runtime": runtime, "--threads": threads, "--runs": runs}
        command += [part for flag, value in stated.items() if value is not None for part in (flag, str(value))]
        command += ["--check-only"] * check_only
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0:
            content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            return content
    lines = done.stderr.strip().splitlines()
    message = lines[-1].removeprefix("bench.py: ") if lines else "it printed no message"
    match done.returncode:
        case code if code == _DAMAGED:
            raise BundleError(message, where=str(bundle), hint="build it again with: edgec build")
        case code if code == _DIFFERENT:
            hint = "another runtime version or CPU may be why: compare with the manifest's toolchain"
            raise ParityError(message, where=str(bundle), hint=hint)
        case code if code == _USAGE:
            raise UsageError(message, where=str(bundle))
        case code if code == _NO_WRITE:
            raise StorageError(message, where=str(result))
        case code:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorkerError(f"the harness failed ({how}): " + "\n".join(lines[-10:]), where=str(bundle))
