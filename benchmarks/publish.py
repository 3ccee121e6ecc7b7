"""What publishing and pulling cost: seconds, blobs that are sent, and peak memory by size of the bundle.

    python -m benchmarks.publish                          # folder, registry and S3: about two minutes on two cores
    python -m benchmarks.publish --place folder oci       # only these
    python -m benchmarks.publish --large 100              # MB of the large bundle

Needs the `dev` extra and docker-registry. The digits example is built once; random bytes are added to its bundle, in a
file of its own, so that it has the size wanted. `seconds` is the wall time of the whole command, the median of five
with the spread of all, each to a place that is empty before; `again` is publishing the same once more. `sent` is what
the place has more of after a publish: files of a folder, blobs of a registry or bucket. Peak memory is that of the
`edgec` process (ru_maxrss). Registry and S3 server (moto's) run on loopback, their disk is the temporary folder's.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EDGEC = Path(sys.executable).with_name("edgec")
TARGET = "x86-64-int8"
RUNS = 5
SMALL = 1
TYPICAL = 5
"""MB."""


@dataclass(frozen=True)
class Place:
    """Where to publish."""

    name: str
    new: Callable[[], str]
    """A place where nothing is published yet."""
    stored: Callable[[], int]
    """How many files or blobs are stored in all places of this kind."""


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    seconds: float
    processor: float
    peak_mb: float


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", nargs="+", choices=("folder", "oci", "s3"), default=["folder", "oci", "s3"])
    parser.add_argument("--large", type=int, default=1000, help="MB of the large bundle")
    parser.add_argument("--bundle", type=Path, help="a bundle to measure with, in place of one that is built")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgec-publish-") as name:
        work = Path(name)
        digits = options.bundle or _digits(work)
        bundles = {size: _padded(digits, work, size) for size in (SMALL, TYPICAL, options.large)}
        print("| place | verb | MB | seconds (all) | processor s | again s | sent | sent again | peak MB |")
        print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
        for kind in options.place:
            with {"folder": _folder, "oci": _registry, "s3": _bucket}[kind](work) as place:
                for size, bundle in bundles.items():
                    _measure(place, bundle, size, work)


def _measure(place: Place, bundle: Path, size: int, work: Path) -> None:
    published, again, pulled, sent, resent = [], [], [], 0, 0
    for _ in range(RUNS if size <= TYPICAL else 1):
        where, before = place.new(), place.stored()
        published.append(_edgec("publish", str(bundle), where))
        sent = place.stored() - before
        again.append(_edgec("publish", str(bundle), where))
        resent = place.stored() - before - sent
        pulled.append(_edgec("pull", where, "--out", str(work / "out")))
        shutil.rmtree(work / "out")
    for verb, costs in (("publish", published), ("pull", pulled)):
        seconds = [cost.seconds for cost in costs]
        spread = f" ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else ""
        rest = f"{statistics.median(c.seconds for c in again):.2f} | {sent} | {resent}" if verb == "publish" else "| |"
        print(
            f"| {place.name} | {verb} | {size} | {statistics.median(seconds):.2f}{spread} "
            f"| {statistics.median(cost.processor for cost in costs):.2f} | {rest} "
            f"| {max(cost.peak_mb for cost in costs):.0f} |",
            flush=True,
        )


def _edgec(*arguments: str) -> Cost:
    began = time.monotonic()
    process = subprocess.Popen([str(EDGEC), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"edgec {' '.join(arguments)}: exit code {process.returncode}")
    return Cost(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def _digits(work: Path) -> Path:
    project = work / "project"
    shutil.copytree(ROOT / "examples" / "digits", project, ignore=shutil.ignore_patterns("dist", "__pycache__"))
    for command in ([sys.executable, "train.py"], [str(EDGEC), "build", "--target", TARGET, "--effort", "fast"]):
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    return project / "dist" / TARGET


def _padded(bundle: Path, work: Path, megabytes: int) -> Path:
    """A bundle of so many MB."""
    copy = work / f"{megabytes}-MB" / TARGET
    shutil.copytree(bundle, copy)
    have = sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())
    with (copy / "padding.bin").open("wb") as stream:
        for left in range(megabytes * 10**6 - have, 0, -(10**6)):
            stream.write(os.urandom(min(left, 10**6)))
    process = multiprocessing.get_context("spawn").Process(target=_write_manifest, args=(copy,))
    process.start()  # a process of its own: what is imported here counts as memory of the processes that we start
    process.join()
    return copy


def _write_manifest(bundle: Path) -> None:
    from edgec.bundle.check import read_bundle
    from edgec.bundle.write import write_manifest

    write_manifest(bundle, read_bundle(bundle))


@contextmanager
def _folder(work: Path) -> Iterator[Place]:
    base = work / "folders"
    base.mkdir()

    def stored() -> int:
        return sum(
            path.is_file() and ".work" not in path.parts and path.name != "index.json" for path in base.rglob("*")
        )

    yield Place("folder", lambda: tempfile.mkdtemp(dir=base), stored)
    shutil.rmtree(base)


@contextmanager
def _registry(work: Path) -> Iterator[Place]:
    sys.path.insert(0, str(ROOT / "tests" / "shared"))
    from servers.registry import DebianRegistry

    count = iter(range(10**6))
    running: list[DebianRegistry] = []

    def new() -> str:  # a registry of its own: one mounts blobs from repository to repository
        for server in running:
            server.stop()
            shutil.rmtree(server.folder)
        running[:] = [DebianRegistry(work / f"registry-{next(count)}")]
        return f"oci://{running[0].host}/digits:1"

    yield Place("registry", new, lambda: len(running[0].blobs()))
    for server in running:
        server.stop()
        shutil.rmtree(server.folder)


@contextmanager
def _bucket(work: Path) -> Iterator[Place]:
    import boto3.session

    sys.path.insert(0, str(ROOT / "tests" / "shared"))
    from servers.registry import free_port
    from servers.s3 import environment

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    os.environ.update(environment(f"127.0.0.1:{port}"))
    client = boto3.session.Session().client("s3")
    count = iter(range(10**6))

    def stored() -> int:
        return sum(
            "/blobs/" in item["Key"]
            for bucket in client.list_buckets()["Buckets"]
            for item in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
        )

    def new() -> str:
        bucket = f"models-{next(count)}"
        client.create_bucket(Bucket=bucket)
        return f"s3://{bucket}/digits"

    try:
        yield Place("S3", new, stored)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
