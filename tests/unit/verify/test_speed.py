"""Timing in turns, the statistics of ratios, and the worker task over real artifacts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.interface import Artifact, OpRecord, TensorBinding
from edgec.dataset.spool import write_index
from edgec.model.spec import Array, Tensors, TensorSpec
from edgec.verify.requests import ArtifactFile, TimingAnswer, TimingRequest
from edgec.verify.speed import ENOUGH_ROUNDS, MOST_RUNS, compare_turns, in_turns
from edgec.workers.worker import call


class Waiting:
    """A runner that takes a given time, and notes its calls in a common list."""

    def __init__(self, name: str, seconds: float, calls: list[str]) -> None:
        self.name, self.seconds, self.calls = name, seconds, calls

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        self.calls.append(self.name)
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        return {}

    def ops(self) -> Sequence[OpRecord]:
        return ()


def test_turns_alternate_and_hold_the_same_number_of_runs() -> None:
    calls: list[str] = []
    times = in_turns([Waiting("a", 0.001, calls), Waiting("b", 0.002, calls)], {}, warmup=3, runs=12)
    _, rounds, counted = times.shape
    assert counted <= 5
    assert rounds == (ENOUGH_ROUNDS if counted > 1 else 12)  # a busy machine may make it look slow
    assert (times[0] >= 1).all()
    assert (times[1] >= 2).all()
    assert calls[:6] == ["a"] * 3 + ["b"] * 3
    rest, length = calls[6:], counted + 1  # one run is not counted
    blocks = [rest[start : start + length] for start in range(0, len(rest), length)]
    assert all(len(set(block)) == 1 for block in blocks)
    assert [block[0] for block in blocks] == ["a", "b", "b", "a"] * (rounds // 2)


def test_fast_models_get_many_runs_a_turn() -> None:
    times = in_turns([Waiting("a", 0.0, [])], {}, warmup=1, runs=1000)
    assert times.shape[2] == MOST_RUNS
    assert times.shape[1] == ENOUGH_ROUNDS


def test_slow_models_get_one_run_a_turn() -> None:
    calls: list[str] = []
    times = in_turns([Waiting("a", 0.012, calls), Waiting("b", 0.012, calls)], {}, warmup=1, runs=6)
    assert times.shape == (2, 6, 1)
    assert len(calls) == 2 * 2 + 2 * 6 * 2


def test_runs_over_50_ms_are_few_and_all_counted() -> None:
    calls: list[str] = []
    times = in_turns([Waiting("a", 0.06, calls), Waiting("b", 0.06, calls)], {}, warmup=10, runs=6)
    assert times.shape == (2, 6, 1)
    assert len(calls) == 2 * 2 + 2 * 6


def test_the_interval_is_that_of_a_median() -> None:
    """Of 20 ratios the 6th and the 15th: P(6 <= Binomial(20, 1/2) <= 14) = 0.9586."""
    assert sum(comb(20, k) for k in range(6, 15)) / 2**20 > 0.95 > sum(comb(20, k) for k in range(7, 14)) / 2**20
    ratios = np.arange(1.0, 21.0)[np.random.default_rng(0).permutation(20)]
    speed = compare_turns(np.ones((20, 3)), np.repeat(ratios[:, None], 3, axis=1))
    assert (speed.low, speed.ratio, speed.high, speed.runs) == (6.0, 10.5, 15.0, 20)


@pytest.mark.parametrize(("count", "low"), [(1, 1.0), (5, 1.0), (10, 2.0), (100, 40.0)])
def test_intervals_of_other_numbers_of_rounds(count: int, low: float) -> None:
    ratios = np.arange(1.0, count + 1)
    speed = compare_turns(np.ones((count, 1)), ratios[:, None])
    assert (speed.low, speed.high) == (low, count + 1 - low)


def test_bursts_of_other_work_do_not_decide() -> None:
    """A tenth of all runs, and three whole rounds, take ten times as long; the artifact is faster by 1.25."""
    random = np.random.default_rng(0)
    noise = 1 + 9 * (random.random((2, 20, 5)) < 0.1)
    noise[:, 4:7] *= 10
    speed = compare_turns(0.8 * noise[0], 1.0 * noise[1])
    assert speed.ratio == pytest.approx(1.25)
    assert speed.low <= 1.25 <= speed.high
    assert not speed.slower
    assert compare_turns(1.0 * noise[1], 0.8 * noise[0]).slower


def products(file: Path, size: int, count: int) -> Path:
    """`count` matrix products of (1, 8) inputs through `size` columns, as an ONNX file."""
    first = numpy_helper.from_array(np.ones((8, size), np.float32), "w0")
    rest = [numpy_helper.from_array(np.eye(size, dtype=np.float32), f"w{k}") for k in range(1, count)]
    nodes = [
        helper.make_node("MatMul", ["x" if k == 0 else f"h{k}", f"w{k}"], [f"h{k + 1}"], name=f"/part{k}/MatMul")
        for k in range(count)
    ]
    graph = helper.make_graph(
        [*nodes, helper.make_node("ReduceSum", [f"h{count}"], ["y"], name="/sum/ReduceSum")],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [first, *rest],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, file)
    return file


def record(precision: str) -> Artifact:
    return Artifact(
        backend="onnxruntime",
        format="onnx",
        file="model.onnx",
        precision=precision,  # type: ignore[arg-type]
        inputs=(TensorBinding(name="x", artifact_name="x", shape=(1, 8), dtype="float32"),),
        outputs=(TensorBinding(name="y", artifact_name="y", shape=(1, 1), dtype="float32"),),
    )


def test_an_artifact_that_is_slower_has_ops_to_blame(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.ones((1, 1, 8), np.float32))
    spec = TensorSpec(name="x", shape=(1, 8), dtype="float32")
    write_index(tmp_path, (spec,), digests=[b"0" * 32], indices=[0], labels=None, origin="here", notes=())
    slow, fast = products(tmp_path / "slow.onnx", 1024, 3), products(tmp_path / "fast.onnx", 64, 3)
    artifacts = (ArtifactFile(artifact=record("int8"), file=slow), ArtifactFile(artifact=record("fp32"), file=fast))
    request = TimingRequest(artifacts=artifacts, runtime="onnxruntime", spool=tmp_path, threads=1, warmup=2, runs=20)

    def timed(**changes: Any) -> TimingAnswer:
        asked = request.model_copy(update=changes)
        return call("edgec.verify.speed:time_artifacts", asked, TimingAnswer, log=tmp_path / "log", what="times").value

    answer = timed()
    latency, speed = answer.latency, answer.speed
    assert latency is not None
    assert speed is not None
    assert 0 < latency.p50_ms <= latency.p90_ms
    assert latency.runs >= 20
    assert speed.slower
    assert speed.low <= speed.ratio <= speed.high < 1
    assert speed.times_ops
    worst = speed.blame[0]
    assert worst.dtype == "float32"
    assert worst.reason
    assert worst.ms is not None
    assert worst.ms > 0
    assert timed(artifacts=artifacts[:1]).speed is None
    assert timed(runs=0) == TimingAnswer()
