"""Every gate is met, failed or not measured for the right reason."""

import math

import pytest

from edgec.machine import Machine
from edgec.project.spec import Gates
from edgec.target.spec import Budget, Device, Emit, Target
from edgec.verify.gates import gate_line, judge
from edgec.verify.records import GateResult, Latency, Measurement, MetricResult, OutputFidelity, Speed

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
        ("fp16", {"metric": top1(0).model_copy(update={"name": "agreement"})}, "min_agreement", "short"),
        ("int8", {"metric": None}, "min_sqnr_db", "met"),
        ("int8-dynamic", {"metric": None}, "min_sqnr_db", "met"),
        ("fp32", {"metric": None}, "min_sqnr_db", "short"),
    ],
)
def test_defaults_fit_metric_and_precision(precision, changes, gate, state):
    assert told(judge(Gates(), target(precision), [measured(**changes)])) == [(gate, state, True)]


AGREES = top1(0).model_copy(update={"name": "agreement"})


def output(sqnr_db, name="y", **more) -> OutputFidelity:
    return OutputFidelity(output=name, sqnr_db=sqnr_db, max_abs_error=1.0, **more)


@pytest.mark.parametrize(
    ("precision", "sqnr_db", "state"),
    [
        ("int8", 20.0, "met"), ("int8", 19.9, "short"), ("int8", 10.0, "short"), ("int8", 9.9, "failed"),
        ("int8", -math.inf, "failed"), ("fp16", 28.0, "short"), ("fp16", 19.9, "failed"), ("fp32", 40.0, "met"),
    ],
)  # fmt: skip
def test_the_default_warns_above_what_it_refuses(precision, sqnr_db, state):
    (result,) = judge(Gates(), target(precision), [measured(metric=None, fidelity=(output(sqnr_db),))])
    assert (result.gate, result.state) == ("min_sqnr_db", state)
    assert ("kept: no gate is stated" in gate_line(result)) is (state == "short")
    stated = Gates(min_sqnr_db=result.limit)
    (result,) = judge(stated, target(precision), [measured(metric=None, fidelity=(output(sqnr_db),))])
    assert result.state == ("met" if state == "met" else "failed")


@pytest.mark.parametrize(
    ("agreement", "sqnr_db", "state"),
    [
        (0.95, 6.0, "met"),  # what matters is equal
        (0.6, 28.0, "short"),  # classes that were nearly equal
        (0.49, 28.0, "failed"),  # scores that no longer rank
        (0.85, 15.0, "short"),
        (0.79, 15.0, "failed"),
        (0.94, 9.0, "failed"),
    ],
)
def test_equal_classes_by_default(agreement, sqnr_db, state):
    item = measured(metric=AGREES, agreement=agreement, fidelity=(output(sqnr_db),))
    (result,) = judge(Gates(), target(), [item])
    assert (result.gate, result.limit, result.state) == ("min_agreement", 0.95, state)
    (stated,) = judge(Gates(min_agreement=0.95), target(), [item])
    assert (stated.state, stated.default) == ("met" if state == "met" else "failed", False)


def test_all_outputs_count_by_default():
    groups = (output(30.0, "y[0:4]", channels="0:4"), output(4.0, "y[4:84]", channels="4:84"))
    (result,) = judge(Gates(), target(), [measured(metric=None, fidelity=groups)])
    assert (result.state, result.value) == ("failed", 4.0)
    assert 'worst output "y[4:84]"' in result.reason
    others = (*groups, output(13.0, "boxes"), output(3.0, "ids", equal=0.9), output(9.0, "mask", equal=0.99))
    results = judge(Gates(), target(), [measured(metric=AGREES, fidelity=others)])
    assert told(results) == [
        ("min_agreement", "met", True), ("min_sqnr_db", "short", True), ("min_agreement", "short", True),
    ]  # fmt: skip
    assert [item.value for item in results] == [0.97, 13.0, 0.9]
    (result,) = judge(Gates(), target(), [measured(metric=None, fidelity=(output(-5.0, "ids", equal=0.79),))])
    assert (result.gate, result.value, result.state) == ("min_agreement", 0.79, "failed")


@pytest.mark.parametrize(
    ("sqnr_db", "varying_db", "state"),
    [(15.0, 3.0, "short"), (15.0, 2.9, "failed"), (15.0, None, "short"), (28.0, 0.0, "met")],
)
def test_an_output_that_no_longer_follows_the_input_is_refused(sqnr_db, varying_db, state):
    scores = (output(30.0), output(sqnr_db, "scores", varying_db=varying_db))
    (result,) = judge(Gates(), target(), [measured(metric=None, fidelity=scores)])
    assert result.state == state
    assert ('what differs between samples of "scores" is at' in result.reason) is (state == "failed")


def test_a_loss_of_what_is_known_is_refused_by_default():
    item = measured(metric=top1(1.5), fidelity=(output(40.0),))
    assert told(judge(Gates(), target(), [item])) == [("max_drop", "failed", True)]


def test_stated_gates_replace_the_defaults():
    gates = Gates(min_agreement=0.96, min_sqnr_db=31)
    results = judge(gates, target(), [measured(metric=top1(50))])
    assert told(results) == [("min_agreement", "met", False), ("min_sqnr_db", "failed", False)]
    assert results[1].margin == pytest.approx(-1)


@pytest.mark.parametrize(
    ("stated", "metric", "limit", "state"),
    [
        (90.0, top1(0.5), 90, "met"),
        (0.9, top1(0.5), 90, "met"),
        (0.91, top1(0.5), 91, "failed"),
        (1.0, top1(0.0, base=100.0), 100, "met"),
        (0.9, top1(0.05, "1", 1.0), 0.9, "met"),  # on a scale of its own a share is no share
        (2.0, top1(0.5, "1", 2.2), 2, "failed"),
    ],
)
def test_min_accuracy_is_absolute(stated, metric, limit, state):
    (result,) = judge(Gates(min_accuracy=stated), target(), [measured(metric=metric)])
    assert (result.gate, result.limit, result.state, result.quality) == ("min_accuracy", limit, state, True)
    assert result.margin == pytest.approx(metric.value - limit)


@pytest.mark.parametrize(
    ("gates", "changes"),
    [
        (Gates(max_drop=1), {"metric": None}),
        (Gates(min_accuracy=90), {"metric": None}),
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


@pytest.mark.parametrize(
    ("gates", "changes", "state", "value", "reason"),
    [
        (Gates(max_drop=1.0, strict=True), {}, "failed", 1.5, "upper bound of the drop; top1"),
        (Gates(max_drop=1.5, strict=True), {}, "met", 1.5, "upper bound"),
        (Gates(min_agreement=0.95, strict=True), {}, "failed", 0.93, "95 % lower bound of 0.9700"),
        (Gates(min_agreement=0.93, strict=True), {}, "met", 0.93, "lower bound"),
        (Gates(min_agreement=0.97), {}, "met", 0.97, "95 % lower bound 0.9300"),
        (Gates(min_sqnr_db=30.0, strict=True), {}, "met", 30.0, 'worst output "y"'),
        (Gates(strict=True), {}, "failed", 1.5, "upper bound"),
        (Gates(strict=True), {"metric": AGREES}, "short", 0.93, "95 % lower bound of 0.9700"),
        (Gates(min_agreement=0.9, strict=True), {"agreement_low": None}, "failed", None, "no interval"),
    ],
)
def test_strict_gates_judge_the_bound(gates, changes, state, value, reason):
    (result,) = judge(gates, target(), [measured(**changes)])
    assert result.state == state
    assert result.value == pytest.approx(value)
    assert reason in result.reason
    assert result.quality


def test_a_strict_gate_needs_an_interval():
    single = top1(0.0).model_copy(update={"drop_low": None, "drop_high": None, "interval": "not per sample"})
    (result,) = judge(Gates(max_drop=1.0, strict=True), target(), [measured(metric=single)])
    assert (result.state, result.value) == ("failed", None)
    assert "not per sample" in result.reason
    assert judge(Gates(max_drop=1.0), target(), [measured(metric=single)])[0].state == "met"


def faster(ratio: float) -> Speed:
    return Speed(ratio=ratio, low=ratio - 0.1, high=ratio + 0.1, float_ms=3.0, runs=20)


@pytest.mark.parametrize(
    ("items", "state", "value", "reason"),
    [
        ([{"speed": faster(1.5)}], "met", 1.5, "1.40 to 1.60 of 20 runs in turns"),
        ([{"speed": faster(1.25)}], "met", 1.25, "on test"),
        ([{"speed": faster(1.2)}], "failed", 1.2, ""),
        ([{"speed": None}], "failed", None, "it was not timed against its float32 twin"),
        ([{"speed": faster(9.0), "judged": False}, {"speed": faster(1.1)}], "failed", 1.1, ""),
        ([{"speed": None}, {"runtime": "other", "speed": faster(1.3)}], "met", 1.3, ""),
    ],
)
def test_the_speed_up_is_a_gate_on_any_machine(items, state, value, reason):
    found = [measured(**changes) for changes in items]
    result = judge(Gates(max_drop=9), target(min_speedup=1.25), found)[-1]
    assert (result.gate, result.state, result.value) == ("min_speedup", state, value)
    assert reason in result.reason
    assert not result.quality
    assert "min_speedup" not in [item.gate for item in judge(Gates(max_drop=9), target(), found)]


def test_gates_in_one_line():
    (missed,) = judge(Gates(max_drop=0.25), target(), [measured()])
    assert gate_line(missed).startswith("max_drop 0.25: 0.5, missed by 0.25 (top1 91 -> 90.5 points on 100 samples")
    (met,) = judge(Gates(), target(), [measured(metric=None)])
    assert gate_line(met) == 'min_sqnr_db 20 (default): 30 (worst output "y")'
    unmeasured = judge(Gates(max_drop=9), target(min_speedup=2), [measured()])[-1]
    assert gate_line(unmeasured).startswith("min_speedup 2: not measured (cannot be judged: it was not timed")
