#!/usr/bin/env python3
"""Check and time the model files of an edgec bundle on this machine.

Needs Python 3.9, NumPy and the runtime named in requirements.txt; edgec itself is not needed. In order: the digests
of all files, the recorded outputs within the stated tolerance, then times. Exit codes: 0 all well; 2 a file of the
bundle is missing or changed; 3 the outputs differ; 4 the runtime is missing or refuses the file; 5 the result
cannot be written; 64 wrong arguments. Each format has its runner in a file beside this one; all else is here, so that
one file is to be read before it is run on a device.
"""

from __future__ import annotations

# ruff: noqa: B905  (zip has no strict= before Python 3.10)
import argparse
import hashlib
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NoReturn

Entry = Dict[str, Any]
"""One artifact of bench.json."""
Arrays = List[Any]

HERE = Path(__file__).resolve().parent
DAMAGED, DIFFERENT, NO_RUNTIME, NO_WRITE, USAGE = 2, 3, 4, 5, 64
FORMAT_NAME = re.compile(r"[a-z][a-z0-9_]*")


class HarnessError(Exception):
    """Ends the run with an exit code and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """argparse's own exit code for wrong arguments is the one for a damaged bundle."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise HarnessError(USAGE, message)


def check_digests(root: Path) -> dict[str, Any]:
    """Compare every file of the manifest with its digest; return the manifest."""
    try:
        manifest: dict[str, Any] = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
        files = manifest["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise HarnessError(DAMAGED, "manifest.json cannot be read: %s" % exc) from exc
    wrong = []
    for name, record in sorted(files):
        path = root / name
        if Path(name).is_absolute() or ".." in Path(name).parts or path.is_symlink():
            wrong.append("%s: leads out of the bundle" % name)
        elif not path.is_file():
            wrong.append("%s: missing" % name)
        elif sha256(path) != record["sha256"]:
            wrong.append("%s: changed" % name)
    if wrong:
        raise HarnessError(DAMAGED, "the bundle is not as it was built: %s" % "; ".join(wrong))
    return manifest


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def distribution_version(name: str) -> str:
    """Installed version of a distribution, or ``unknown``."""
    try:
        from importlib.metadata import version

        return version(name)
    except Exception:  # no metadata, as in some embedded images
        return "unknown"


def load_runner(entry: Entry, root: Path, runtime: str, threads: int) -> tuple[Any, float]:
    """Load an artifact in a runtime.

    Args:
        entry: the artifact.
        root: folder of the bundle.
        runtime: name of the runtime.
        threads: its CPU threads.

    Returns:
        The runner, and the milliseconds that this took.
    """
    kind = read_runner(entry["format"])
    began = time.perf_counter()
    try:
        runner = kind(entry, root / entry["file"], runtime, threads)
    except ImportError as exc:
        raise missing(exc.name or runtime, exc, root) from exc
    except Exception as exc:
        raise HarnessError(NO_RUNTIME, "%s refuses %s: %s" % (runtime, entry["file"], exc)) from exc
    return runner, (time.perf_counter() - began) * 1000


def read_runner(format_name: str) -> Any:
    """The class Runner of the file beside this program that runs a format."""
    file = HERE / ("run_%s.py" % format_name)
    if not FORMAT_NAME.fullmatch(format_name) or not file.is_file():
        raise HarnessError(NO_RUNTIME, "this harness cannot run files of format %s" % format_name)
    content: dict[str, Any] = {"__name__": file.stem}
    # not imported: that would leave bytecode in the bundle
    exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), content)
    return content["Runner"]


def missing(name: str, exc: ImportError, root: Path) -> HarnessError:
    """The error of a package that cannot be imported.

    Args:
        name: the package.
        exc: the import's error.
        root: folder of the bundle.
    """
    hint = "%s -m pip install -r %s" % (sys.executable, root / "bench" / "requirements.txt")
    return HarnessError(NO_RUNTIME, "%s cannot be imported (%s); install it with: %s" % (name, exc, hint))


def read_samples(numpy: Any, entry: Entry, inputs: dict[str, Any]) -> list[Arrays]:
    """The recorded inputs as the artifact takes them.

    Args:
        numpy: the module.
        entry: the artifact.
        inputs: input -> its recorded samples.

    Returns:
        One list of arrays a sample.
    """
    count = len(next(iter(inputs.values())))
    samples = []
    for index in range(count):
        arrays = []
        for item in entry["inputs"]:
            array = numpy.asarray(inputs[item["name"]][index], dtype=item["dtype"])
            if item["permutation"] is not None:
                array = numpy.transpose(array, item["permutation"])
            arrays.append(numpy.ascontiguousarray(array).reshape(item["shape"]))
        samples.append(arrays)
    return samples


def replay(numpy: Any, entry: Entry, runner: Any, feeds: list[Any], expected: dict[str, Any]) -> list[dict[str, Any]]:
    """Run all samples and compare each output with what was recorded at the build.

    Args:
        numpy: the module.
        entry: the artifact.
        runner: it, loaded.
        feeds: samples, prepared by the runner.
        expected: output -> its values at the build.

    Returns:
        The largest differences of each output.
    """
    worst = [{"output": item["name"], "atol": item["atol"], "max_unequal": item["max_unequal"],
              "max_abs_error": 0.0, "unequal": 0.0, "ok": True} for item in entry["outputs"]]  # fmt: skip
    for index, feed in enumerate(feeds):
        try:
            outputs = runner.run(feed)
        except Exception as exc:
            raise HarnessError(NO_RUNTIME, "%s cannot be run: %s" % (entry["file"], exc)) from exc
        if len(outputs) != len(worst):
            raise HarnessError(DIFFERENT, "%s gives %d outputs, not %d" % (entry["file"], len(outputs), len(worst)))
        for item, array, record in zip(entry["outputs"], outputs, worst):
            if item["permutation"] is not None:
                array = numpy.transpose(array, item["permutation"])
            compare(numpy, numpy.asarray(array), expected[item["name"]][index], record)
    return worst


def compare(numpy: Any, output: Any, expected: Any, record: dict[str, Any]) -> None:
    """Add one sample's differences to the record of an output.

    Args:
        numpy: the module.
        output: what the artifact computes here.
        expected: what it computed at the build.
        record: of the output, over the samples before.
    """
    if output.shape != expected.shape:
        record["ok"] = False
        record["max_abs_error"] = None
        return
    if record["max_abs_error"] is None or not expected.size:
        return
    got, wanted = output.astype(numpy.float64), expected.astype(numpy.float64)
    same = (got == wanted) | (numpy.isnan(got) & numpy.isnan(wanted))
    record["unequal"] = max(record["unequal"], float(1 - same.mean()))
    with numpy.errstate(invalid="ignore"):
        error = numpy.where(same, 0.0, numpy.abs(got - wanted))
    largest = float(error.max())
    if not numpy.isfinite(largest):
        record["max_abs_error"] = None
        record["ok"] = False
        return
    record["max_abs_error"] = max(record["max_abs_error"], largest)
    if record["max_unequal"] is None:
        record["ok"] = record["ok"] and largest <= record["atol"]
    else:
        record["ok"] = record["ok"] and record["unequal"] <= record["max_unequal"]


def measure(numpy: Any, runner: Any, feeds: list[Any], warmup: int, runs: int) -> dict[str, float]:
    """Times of single runs, in milliseconds, the samples in turn.

    Args:
        numpy: the module.
        runner: the loaded artifact.
        feeds: samples, prepared by the runner.
        warmup: runs before those that are timed.
        runs: timed runs.
    """
    for index in range(warmup):
        runner.run(feeds[index % len(feeds)])
    times = []
    for index in range(runs):
        feed = feeds[index % len(feeds)]
        began = time.perf_counter()
        runner.run(feed)
        times.append((time.perf_counter() - began) * 1000)
    p50, p90, p99 = (float(value) for value in numpy.percentile(times, [50, 90, 99]))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "mean_ms": float(numpy.mean(times)), "min_ms": min(times)}


def peak_rss_mb() -> float | None:
    """Highest resident memory of this process; getrusage would count what ran before exec."""
    for line in (read_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1024)


def read_text(path: str) -> str | None:
    """Content of a file; None when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_number(path: str) -> int | None:
    """The number in a file; None when there is not one."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


def describe_machine() -> dict[str, Any]:
    """CPU, system and Python, for the result."""
    model = read_text("/proc/device-tree/model")
    cpu = None
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.lower().startswith("model name") and cpu is None:
            cpu = line.partition(":")[2].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "arch": platform.machine(),
        "board": model.rstrip("\x00") if model else None,
        "cpu": cpu or platform.processor() or None,
        "cores": cores,
        "system": "%s %s" % (platform.system(), platform.release()),
        "python": platform.python_version(),
    }


def describe_state() -> dict[str, Any]:
    """Clock and temperature as Linux shows them; None where it does not."""
    base = "/sys/devices/system/cpu/cpu0/cpufreq/"
    khz = read_number(base + "scaling_cur_freq")
    heat = read_number("/sys/class/thermal/thermal_zone0/temp")
    return {
        "governor": read_text(base + "scaling_governor"),
        "frequency_mhz": None if khz is None else khz / 1000,
        "temperature_c": None if heat is None else heat / 1000,
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write the result whole, or not at all."""
    partial = path.parent / (".%s.%d.partial" % (path.name, os.getpid()))
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(result, indent=1, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as exc:
        if partial.exists():
            partial.unlink()
        raise HarnessError(NO_WRITE, "cannot write %s: %s; choose another place with --out" % (path, exc)) from exc


def choose(config: dict[str, Any], artifact: str | None, runtime: str | None) -> tuple[Entry, str]:
    """The artifact and the runtime to use.

    Args:
        config: content of bench.json.
        artifact: the user's choice of a file; None: the first artifact.
        runtime: the user's choice; None: the artifact's first one.
    """
    entries = config["artifacts"]
    if artifact is not None:
        entries = [item for item in entries if item["file"] == artifact]
        if not entries:
            known = ", ".join(item["file"] for item in config["artifacts"])
            raise HarnessError(USAGE, "no artifact is called %s; there are: %s" % (artifact, known))
    entry = entries[0]
    names = entry["runtimes"]
    if runtime is not None and runtime not in names:
        raise HarnessError(USAGE, "%s does not run in %s; it does in: %s" % (entry["file"], runtime, ", ".join(names)))
    return entry, runtime or names[0]


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def not_negative(text: str) -> int:
    """A whole number from 0, for argparse."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line's options."""
    parser = Parser(description="Check and time the model files of this bundle.")
    parser.add_argument("--artifact", help="file to run; default: the first of bench.json")
    parser.add_argument("--runtime", help="runtime to use; default: the file's first one")
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--runs", type=positive)
    parser.add_argument("--warmup", type=not_negative)
    parser.add_argument("--out", type=Path, help="default: result.json in the folder bench")
    parser.add_argument("--bundle", type=Path, default=HERE.parent, help="default: the one that bench.py is in")
    parser.add_argument("--check-only", action="store_true", help="check digests and outputs, time nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Check, run and time the artifact that the arguments name."""
    options = parse(arguments)
    root = options.bundle.resolve()
    manifest = check_digests(root)
    config = json.loads((root / "bench" / "bench.json").read_text(encoding="utf-8"))
    entry, runtime = choose(config, options.artifact, options.runtime)
    threads = options.threads or config["threads"]
    warmup = config["warmup"] if options.warmup is None else options.warmup
    runs = options.runs or config["runs"]
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        import numpy
    except ImportError as exc:
        raise missing("numpy", exc, root) from exc
    with numpy.load(root / "bench" / "inputs.npz") as file:
        inputs = {name: file[name] for name in file.files}
    with numpy.load(root / "bench" / entry["expected"]) as file:
        expected = {name: file[name] for name in file.files}
    samples = read_samples(numpy, entry, inputs)
    before = describe_state()
    runner, load_ms = load_runner(entry, root, runtime, threads)
    feeds = [runner.prepare(arrays) for arrays in samples]
    parity = replay(numpy, entry, runner, feeds, expected)
    matches = all(item["ok"] for item in parity)
    latency = None
    if matches and not options.check_only:
        latency = measure(numpy, runner, feeds, warmup, runs)
    result = {
        "schema_version": 1,
        "target": config["target"],
        "manifest_sha256": sha256(root / "manifest.json"),
        "artifact": entry["file"],
        "artifact_sha256": manifest["files"][entry["file"]]["sha256"],
        "size_bytes": (root / entry["file"]).stat().st_size,
        "runtime": runtime,
        "runtime_version": distribution_version(runtime),
        "engine": entry["engine"],
        "threads": threads,
        "warmup": warmup,
        "runs": runs,
        "parity": {"ok": matches, "samples": len(samples), "outputs": parity},
        "load_ms": load_ms,
        "latency": latency,
        "peak_rss_mb": peak_rss_mb(),
        "machine": describe_machine(),
        "before": before,
        "after": describe_state(),
        "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_result(options.out or root / "bench" / "result.json", result)
    show(result)
    if not matches:
        bad = ["%s: off by %s" % (item["output"], item["max_abs_error"]) for item in parity if not item["ok"]]
        raise HarnessError(DIFFERENT, "%s computes something else here: %s" % (entry["file"], "; ".join(bad)))


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    rows = [
        ("artifact", "%s, %.1f KiB" % (result["artifact"], result["size_bytes"] / 1024)),
        ("runtime", "%s %s, %d thread(s)" % (result["runtime"], result["runtime_version"], result["threads"])),
        ("outputs", "as recorded" if result["parity"]["ok"] else "NOT as recorded"),
        ("load", "%.1f ms" % result["load_ms"]),
    ]
    if result["latency"]:
        rows.append(("latency", "p50 {p50_ms:.3f}  p90 {p90_ms:.3f}  p99 {p99_ms:.3f} ms".format(**result["latency"])))
    if result["peak_rss_mb"]:
        rows.append(("peak memory", "%.0f MB" % result["peak_rss_mb"]))
    if result["after"]["temperature_c"] is not None:
        rows.append(("temperature", "%.0f C" % result["after"]["temperature_c"]))
    for name, value in rows:
        print("%-12s %s" % (name, value))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except HarnessError as stop:
        print("bench.py: %s" % stop, file=sys.stderr)
        sys.exit(stop.code)
