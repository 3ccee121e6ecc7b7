"""A bundle's own harness, run on this machine: its exit codes become edgec's errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.bench.run import bench_on_host
from edgec.bundle.check import check_digests
from edgec.errors import BundleError, ParityError, StorageError, UsageError, WorkerError


def test_a_result_and_nothing_left_behind(built: Path) -> None:
    result = bench_on_host(built, runs=3, threads=1)
    assert (result["runs"], result["threads"], result["parity"]["ok"]) == (3, 1, True)
    assert result["latency"]["p50_ms"] > 0
    check_digests(built)
    assert not list((built / "bench").glob("result*"))
    assert bench_on_host(built, check_only=True)["latency"] is None


def test_a_result_is_written_where_asked(bundle: Path) -> None:
    out = bundle / "bench" / "result-here.json"
    assert bench_on_host(bundle, check_only=True, out=out)["artifact"] == "model.onnx"
    assert out.is_file()
    check_digests(bundle)


def test_wrong_choices(built: Path) -> None:
    with pytest.raises(UsageError, match="no artifact is called x"):
        bench_on_host(built, artifact="x")
    with pytest.raises(UsageError, match="does not run in torch"):
        bench_on_host(built, runtime="torch")
    with pytest.raises(StorageError, match="cannot write"):
        bench_on_host(built, check_only=True, out=Path("/dev/full/result.json"))


def test_damaged_bundles(bundle: Path, tmp_path: Path) -> None:
    (bundle / "bench" / "inputs.npz").write_bytes(b"")
    with pytest.raises(BundleError, match=r"bench/inputs\.npz: changed"):
        bench_on_host(bundle)
    (bundle / "bench" / "bench.py").unlink()
    with pytest.raises(BundleError, match=r"has no bench/bench\.py"):
        bench_on_host(bundle)
    with pytest.raises(BundleError, match="there is no such folder"):
        bench_on_host(tmp_path / "nowhere")


def test_other_outputs_and_refused_files(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="y: off by"):
        bench_on_host(make_bundle(tmp_path / "b", shift=0.5))
    with pytest.raises(WorkerError, match=r"exit code 4.*refuses model\.onnx"):
        bench_on_host(make_bundle(tmp_path / "c", content=b"no model"))
