"""Every gate is met, failed or not measured for the right reason."""

import math

import pytest

from edgec.machine import Machine
from edgec.project.spec import Gates
from edgec.target.spec import Budget, Device, Emit, Target
from edgec.verify.gates import judge
from edgec.verify.records import GateResult, Latency, Measurement, MetricResult, OutputFidelity

ISA = frozenset({"neon"})
FACTS = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")
PI = Device(
    name="pi", description="", arch="aarch64", triple="aarch64-linux-gnu", cpu="cortex-a72", isa=ISA, cores=4,
    ram_mb=1024, sources=dict.fromkeys(FACTS, "test"),
)  # fmt: skip
HERE = Machine(arch="x86_64", cpu="test", features=("avx2",), cores=2)
THERE = Machine(arch="aarch64", cpu="cortex-a72", features=("neon",), cores=4)


def target(precision="int8", **budget) -> Target:
    return Target(name="t", device=PI, precision=precision, emit=(Emit(backend="example"),), budget=Budget(**budget))


def top1(drop: float, unit: str = "points", base: float = 91.0) -> MetricResult:
    return MetricResult(
        name="top1", unit=unit, float_value=base, value=base - drop, drop=drop, drop_low=drop - 1, drop_high=drop + 1,
        interval="test", samples=100,
    )  # fmt: skip


def measured(**changes) -> Measurement:
    values = {
        "artifact": "m.onnx", "backend": "onnxruntime", "runtime": "onnxruntime", "runtime_version": "1",
        "judged": True, "machine": HERE, "size_bytes": 4096, "samples": 100, "metric": top1(0.5), "agreement": 0.97,
        "agreement_low": 0.93, "fidelity": (OutputFidelity(output="y", sqnr_db=30.0, max_abs_error=0.1),), "ops": (),
        "latency": Latency(p50_ms=2.0, p90_ms=3.0, runs=9, threads=1), "peak_rss_mb": 100.0,
    }  # fmt: skip
    return Measurement(**(values | changes))


def told(results: tuple[GateResult, ...]) -> list[tuple[str, str, bool]]:
    return [(item.gate, item.state, item.default) for item in results]


@pytest.mark.parametrize(
    ("precision", "changes", "gate", "state"),
    [
        ("int8", {"metric": top1(1.0)}, "max_drop", "met"),
        ("int8", {"metric": top1(1.01)}, "max_drop", "failed"),
        ("int8", {"metric": top1(91.4 - 90.4)}, "max_drop", "met"),
        ("int8", {"metric": top1(0.11, "1", 10.0)}, "max_drop", "failed"),
        ("int8", {"metric": top1(0.09, "1", 10.0)}, "max_drop", "met"),
        ("int8", {"metric": top1(0).model_copy(update={"name": "agreement"})}, "min_agreement", "met"),
        ("fp16", {"metric": top1(0).model_copy(update={"name": "agreement"})}, "min_agreement", "failed"),
        ("int8", {"metric": None}, "min_sqnr_db", "met"),
        ("int8-dynamic", {"metric": None}, "min_sqnr_db", "met"),
        ("fp32", {"metric": None}, "min_sqnr_db", "failed"),
    ],
)
def test_defaults_fit_metric_and_precision(precision, changes, gate, state):
    assert told(judge(Gates(), target(precision), [measured(**changes)])) == [(gate, state, True)]


def test_stated_gates_replace_the_defaults():
    gates = Gates(min_agreement=0.96, min_sqnr_db=31)
    results = judge(gates, target(), [measured(metric=top1(50))])
    assert told(results) == [("min_agreement", "met", False), ("min_sqnr_db", "failed", False)]
    assert results[1].margin == pytest.approx(-1)


@pytest.mark.parametrize(
    ("gates", "changes"),
    [
        (Gates(max_drop=1), {"metric": None}),
        (Gates(min_agreement=0.5), {"agreement": None, "agreement_low": None}),
    ],
)
def test_a_stated_gate_that_cannot_be_judged_fails(gates, changes):
    (result,) = judge(gates, target(), [measured(**changes)])
    assert result.state == "failed"
    assert "cannot be judged" in result.reason


def test_failures_and_unjudged_runtimes():
    broken = {"metric": None, "agreement": None, "agreement_low": None, "fidelity": (), "failure": "refused"}
    (result,) = judge(Gates(), target(), [measured(**broken)])
    assert (result.gate, result.state, result.reason) == ("runs", "failed", "refused")
    other = measured(runtime="other", judged=False, **broken)
    assert told(judge(Gates(), target(), [measured(), other])) == [("max_drop", "met", True)]
    assert told(judge(Gates(), target(), [other])) == [("runs", "not measured", True)]


def test_size_is_judged_once_by_the_tighter_limit():
    items = [measured(), measured(runtime="other")]
    results = judge(Gates(max_drop=9, max_size_kib=5), target(size_kib=3.5), items)
    sizes = [item for item in results if item.gate == "max_size_kib"]
    assert [(item.limit, item.value, item.state) for item in sizes] == [(3.5, 4.0, "failed")]


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({"machine": THERE}, "met", "1 threads"),
        ({"machine": THERE, "latency": Latency(p50_ms=2.6, p90_ms=3, runs=9, threads=1)}, "failed", ""),
        ({}, "not measured", "is no pi"),
        ({"machine": THERE, "emulated": True}, "not measured", "emulation"),
        ({"latency": None}, "not measured", "no judged runtime was timed"),
    ],
)
def test_latency_only_on_a_matching_device(changes, state, reason):
    result = judge(Gates(max_drop=9), target(latency_ms=2.5), [measured(**changes)])[-1]
    assert (result.gate, result.state) == ("latency_ms", state)
    assert reason in result.reason


def test_infinite_values_survive_json():
    exact = measured(metric=None, fidelity=(OutputFidelity(output="y", sqnr_db=math.inf, max_abs_error=0.0),))
    (result,) = judge(Gates(), target(), [exact])
    assert result.state == "met"
    assert GateResult.model_validate_json(result.model_dump_json()) == result
