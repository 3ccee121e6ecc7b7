"""What sweeps cost: by number of cells, by number of workers, and listings by number of targets.

    python -m benchmarks.sweep                  # everything: about half an hour on two cores
    python -m benchmarks.sweep --cells 6 12     # only these
    python -m benchmarks.sweep --what targets

Needs the `dev` extra. The digits example is trained in a temporary folder. Six cells are one device with fp32, fp16 and
int8 by four calibration methods, for ONNX Runtime; more cells are more devices, which differ in name only, so that all
cells are made and none is another's. `seconds` is wall time of the whole command with its timing, `again` that of the
same command with everything in the store, `processor` the time that all processes took together: on a busy machine it
is the steadier one. Sweeps of one and of two workers are run one after the other; their ratio is of the time until the
last cell is made, since times are taken alone whatever the number of workers.

`edgec targets` and `edgec explain` are run with 2 to 200 target files in the project.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
EDGEC = Path(sys.executable).with_name("edgec")
LEVELS = ("--precision", "fp32,fp16,int8", "--method", "minmax,moving-average,percentile,mse", "--effort", "fast")
CELLS_OF_A_DEVICE = 6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--what", nargs="+", choices=("cells", "workers", "targets"), default=["cells", "workers", "targets"]
    )
    parser.add_argument("--cells", type=int, nargs="+", default=[6, 12, 24, 48])
    parser.add_argument("--parallel-cells", type=int, default=24, help="cells of the comparison of workers")
    parser.add_argument("--targets", type=int, nargs="+", default=[2, 20, 200])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgec-sweep-") as folder:
        project = Path(folder, "project")
        shutil.copytree(
            ROOT / "examples" / "digits", project, ignore=shutil.ignore_patterns("dist", "targets", "__pycache__")
        )
        subprocess.run(
            [sys.executable, "train.py"], cwd=project, check=True, stdout=subprocess.DEVNULL, env=environment()
        )
        if "cells" in options.what:
            _print_cells(project, options.cells)
        if "workers" in options.what:
            _print_workers(project, options.parallel_cells)
        if "targets" in options.what:
            _print_targets(project, options.targets)


def environment() -> dict[str, str]:
    """One thread for each process."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def _print_cells(project: Path, counts: Sequence[int]) -> None:
    print("| cells | seconds | processor s | processor s a cell | again s |\n| ---: | ---: | ---: | ---: | ---: |")
    for count in counts:
        _write_targets(project, count // CELLS_OF_A_DEVICE)
        shutil.rmtree(project / "dist", ignore_errors=True)
        seconds, busy, _ = _sweep(project, 2, count)
        again, _, _ = _sweep(project, 2, 0)
        print(f"| {count} | {seconds:.1f} | {busy:.1f} | {busy / count:.2f} | {again:.2f} |", flush=True)


def _print_workers(project: Path, count: int) -> None:
    _write_targets(project, count // CELLS_OF_A_DEVICE)
    print("\n| workers | seconds | until the last cell | ratio |\n| ---: | ---: | ---: | ---: |")
    alone = 0.0
    for workers in (1, 2):
        shutil.rmtree(project / "dist", ignore_errors=True)
        seconds, _, made = _sweep(project, workers, count)
        alone = alone or made
        print(f"| {workers} | {seconds:.1f} | {made:.1f} | {alone / made:.2f} |", flush=True)


def _print_targets(project: Path, counts: Sequence[int]) -> None:
    print("\n| targets | `edgec targets` s | ms each more | `edgec explain` s | ms each more |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    first: tuple[int, float, float] | None = None
    for count in counts:
        _write_targets(project, count)
        listed = min(_run(project, "targets")[0] for _ in range(3))
        explained = min(_run(project, "explain", "--target", "many-*")[0] for _ in range(3))
        first = first or (count, listed, explained)
        more = max(1, count - first[0])
        each = (1000 * (listed - first[1]) / more, 1000 * (explained - first[2]) / more)
        print(f"| {count} | {listed:.2f} | {each[0]:.2f} | {explained:.2f} | {each[1]:.2f} |", flush=True)


def _write_targets(project: Path, count: int) -> None:
    folder = project / "targets"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "devices").mkdir(parents=True)
    device = (ROOT / "targets" / "devices" / "x86-64-vnni.toml").read_text()
    for index in range(count):
        name = f"many-{index}"
        (folder / "devices" / f"{name}.toml").write_text(re.sub(r"(?m)^name = .*$", f'name = "{name}"', device))
        (folder / f"{name}.toml").write_text(
            f'device = "{name}"\nprecision = "int8"\n[[emit]]\nbackend = "onnxruntime"\n[bench]\nruns = 20\n'
        )


def _sweep(project: Path, workers: int, computed: int) -> tuple[float, float, float]:
    """Wall time, processor time of all processes, and the second in which the last cell was made."""
    arguments = ("sweep", "--target", "many-*", *LEVELS, "--workers", str(workers), "--memory", "100000")
    seconds, busy, told = _run(project, *arguments)
    assert re.findall(r"(\d+) cells computed", told) == [str(computed)], told
    return seconds, busy, max((float(text) for text in re.findall(r": made, after (\d+) s", told)), default=0.0)


def _run(project: Path, *arguments: str) -> tuple[float, float, str]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [EDGEC, *arguments], cwd=project, env=environment(), capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


if __name__ == "__main__":
    main()
