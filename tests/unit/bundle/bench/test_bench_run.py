"""A bundle's own harness, run on this machine: its exit codes become edgec's errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.bundle.bench.run import bench_on_host
from edgec.bundle.check import check_digests, read_bundle
from edgec.bundle.write import write_manifest
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


def test_of_a_bundle_that_is_not_trusted_no_program_is_run(bundle: Path) -> None:
    trap = 'from pathlib import Path\nPath(__file__).with_name("sprung").touch()\n'
    for name in ("bench.py", "numpy.py", "onnxruntime.py", "sitecustomize.py"):
        (bundle / "bench" / name).write_text(trap)
    write_manifest(bundle, read_bundle(bundle))
    result = bench_on_host(bundle, check_only=True, own=False)
    assert (result["artifact"], result["parity"]["ok"]) == ("model.onnx", True)
    assert not (bundle / "bench" / "sprung").exists()
    assert not list((bundle / "bench").glob("result*"))
    (bundle / "bench" / "bench.py").unlink()
    write_manifest(bundle, read_bundle(bundle))
    assert bench_on_host(bundle, check_only=True, own=False)["parity"]["ok"]
    (bundle / "bench" / "inputs.npz").write_bytes(b"")
    with pytest.raises(BundleError, match=r"bench/inputs\.npz: changed"):
        bench_on_host(bundle, own=False)


def test_a_runtime_that_is_missing_is_told_with_what_the_bundle_needs(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "onnxruntime.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    for own in (True, False):
        with pytest.raises(WorkerError) as caught:
            bench_on_host(bundle, check_only=True, own=own)
        assert f"pip install -r {bundle / 'bench' / 'requirements.txt'}" in caught.value.what
