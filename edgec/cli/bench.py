"""`edgec bench`: run a bundle's own benchmark harness on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli.echo import echo


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--artifact", help="File to run (default: the primary artifact).")
@click.option("--runtime", help="Runtime to run it in (default: the artifact's first).")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: the target's).")
@click.option("--runs", type=click.IntRange(1), help="Timed runs (default: the target's).")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write result.json.")
def command(bundle: Path, artifact: str | None, out: Path | None, **options: Any) -> None:
    """Time BUNDLE here, with the harness that runs on the device; writes bench/result.json."""
    from edgec.bundle.bench.run import bench_on_host
    from edgec.machine import host_machine, matches

    file = out or bundle / "bench" / "result.json"
    result = bench_on_host(bundle, artifact=artifact, out=file, **options)
    latency = result["latency"]
    echo(f"{result['artifact']} in {result['runtime']} {result['runtime_version']}, {result['threads']} thread(s)")
    echo(f"  latency  p50 {latency['p50_ms']:.3f}  p90 {latency['p90_ms']:.3f}  p99 {latency['p99_ms']:.3f} ms")
    echo(f"  load     {result['load_ms']:.1f} ms, peak memory {result['peak_rss_mb']:.0f} MB")
    echo(f"  outputs  as recorded, on {result['parity']['samples']} samples")
    from edgec.bundle.check import read_bundle

    device = read_bundle(bundle).target.device
    if not matches(device, host_machine()):
        echo(f"  note     this machine is not a {device.name}: its times say nothing about that device")
    echo(f"  result   {file}")
