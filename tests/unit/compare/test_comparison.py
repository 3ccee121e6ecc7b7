"""Bundles as they are on disk, compared and judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.bundle.manifest import MEASUREMENTS, OpCount, accuracy_of
from edgec.compare.comparison import Comparison, compare
from edgec.compare.judge import judge
from edgec.compare.limits import parse_limits
from edgec.compare.markdown import to_markdown
from edgec.compare.side import Side, read_side
from edgec.errors import BundleError, UsageError
from edgec.machine import Machine
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe
from edgec.verify.records import Latency, Measurement, Speed

Make = Callable[..., Measurement]
Write = Callable[..., Side]

ALL = parse_limits(["accuracy=0.5,agreement=0.5,size=5%,latency=10%,memory=10%"])


def regressions(comparison: Comparison, limits: str, *allowed: str) -> list[str]:
    return [f"{item.what}: {item.reason}" for item in judge(comparison, parse_limits([limits]), allowed)]  # type: ignore[arg-type]


def dropped(make_measurement: Make, value: float) -> Measurement:
    metric = make_measurement().metric
    assert metric is not None
    return make_measurement(metric=metric.model_copy(update={"value": value}))


def test_a_bundle_is_not_worse_than_itself(write_side: Write) -> None:
    old, new = write_side("old"), write_side("new")
    comparison = compare(old, new)
    assert judge(comparison, ALL) == ()
    assert (comparison.coverage_lost, comparison.recipes, comparison.inputs, comparison.toolchain) == ((), (), (), ())
    assert all(change.worse == 0 for row in comparison.rows for change in row.changes)


@pytest.mark.parametrize(("limit", "holds"), [("0.5", False), ("1", True), ("1%", False), ("1.04%", True)])
def test_accuracy_is_held_to_its_limit(write_side: Write, make_measurement: Make, limit: str, holds: bool) -> None:
    comparison = compare(write_side("old"), write_side("new", measured=(dropped(make_measurement, 95.5),)))
    told = regressions(comparison, f"accuracy={limit}")
    assert (told == []) is holds
    if not holds:
        assert told[0].startswith("accuracy: 1 points (1.0 %) worse than before")


def test_a_limit_that_is_just_reached_is_not_passed(write_side: Write, make_measurement: Make) -> None:
    comparison = compare(
        write_side("old", measured=(dropped(make_measurement, 0.8),)),
        write_side("new", measured=(dropped(make_measurement, 0.7),)),
    )
    assert 0.8 - 0.7 > 0.1  # in floating point
    assert regressions(comparison, "accuracy=0.1") == []
    assert regressions(comparison, "accuracy=0.0999") != []


def test_each_cost_is_held_to_its_limit(write_side: Write, make_measurement: Make) -> None:
    slow = make_measurement(latency=Latency(p50_ms=1.35, p90_ms=2.0, runs=50, threads=1), peak_rss_mb=97.2)
    comparison = compare(write_side("old"), write_side("new", size=2458, measured=(slow,)))
    assert regressions(comparison, "latency=10%,size=5%,memory=10%") == [
        "size: 0.4 KiB (20.0 %) worse than before, 5% allowed",
        "latency: 0.225 ms (20.0 %) worse than before, 10% allowed",
        "memory: 16.2 MB (20.0 %) worse than before, 10% allowed",
    ]
    assert regressions(comparison, "latency=25%,size=1,memory=17MB") == []
    assert regressions(comparison, "latency=0.2ms") != []


def test_size_is_told_once_for_each_artifact(write_side: Write, make_measurement: Make) -> None:
    both = tuple(make_measurement(runtime=name) for name in ("one", "other"))
    comparison = compare(write_side("old", measured=both), write_side("new", size=4096, measured=both))
    assert len(regressions(comparison, "size=5%")) == 1


def test_other_evaluation_data_fail_a_limit_unless_allowed(write_side: Write, make_measurement: Make) -> None:
    old = write_side("old")
    assert old.manifest.evaluation is not None
    other = old.manifest.evaluation.model_copy(update={"content_digest": "2" * 64})
    better = dropped(make_measurement, 97.0)
    comparison = compare(old, write_side("new", evaluation=other, measured=(better,)))
    (told,) = regressions(comparison, "accuracy=5")
    assert "not comparable: the evaluation data differ (400 samples, 111111111111, now 400 samples, 222222" in told
    assert regressions(comparison, "accuracy=5", "machine") != []
    assert regressions(comparison, "accuracy=5", "data") == []
    text = to_markdown(comparison, (), ())
    assert "96.50 % → 97.00 % (not comparable)" in text
    assert "accuracy of model.onnx in onnxruntime: not comparable: the evaluation data differ" in text


def test_another_machine_fails_latency_unless_allowed_or_the_twin_tells(
    write_side: Write, make_measurement: Make
) -> None:
    machine = Machine(arch="x86_64", cpu="faster", features=("avx2",), cores=2)
    twin = Speed(ratio=2.0, low=1.9, high=2.1, float_ms=2.0, runs=20)
    old = write_side("old", measured=(make_measurement(speed=twin),))
    bare = compare(old, write_side("bare", measured=(make_measurement(machine=machine),)))
    assert "NEW has no float32 twin" in regressions(bare, "latency=10%")[0]
    assert regressions(bare, "latency=10%", "machine") == []
    assert regressions(bare, "memory=10%", "machine") == []
    slower = twin.model_copy(update={"ratio": 1.6})
    timed = compare(old, write_side("timed", measured=(make_measurement(machine=machine, speed=slower),)))
    (told,) = regressions(timed, "latency=10%", "machine")
    assert "0.125 x float32 (25.0 %) worse" in told
    assert "because the machine differs" in told
    assert "state the limit in percent" in regressions(timed, "latency=1ms")[0]
    assert regressions(timed, "latency=1ms", "machine") == []


def test_only_the_weights_may_differ_for_a_comparison_by_the_twin(write_side: Write, make_measurement: Make) -> None:
    machine = Machine(arch="x86_64", cpu="faster", features=("avx2",), cores=2)
    twin = Speed(ratio=2.0, low=1.9, high=2.1, float_ms=2.0, runs=20)
    old = write_side("old", measured=(make_measurement(speed=twin),))
    there = (make_measurement(machine=machine, speed=twin),)
    source = old.manifest.source
    trained = source.model_copy(update={"weights": "model.pt", "weights_sha256": "5" * 64})
    assert regressions(compare(old, write_side("trained", measured=there, source=trained)), "latency=10%") == []
    edited = source.model_copy(update={"sha256": "6" * 64})
    assert (
        "slower model is not seen"
        in regressions(compare(old, write_side("edited", measured=there, source=edited)), "latency=10%")[0]
    )


def test_the_code_of_a_metric_and_settings_of_the_model_count(write_side: Write, make_measurement: Make) -> None:
    old = write_side("old")
    settings = {**old.manifest.project.settings, "evaluation": {"metric": "metric.py:score"}}
    first, second = (
        old.manifest.project.model_copy(update={"settings": settings, "code": {"metric.py": digit * 64}})
        for digit in "12"
    )
    own = write_side("own", project=first)
    assert regressions(compare(own, write_side("same", project=first)), "accuracy=1") == []
    edited = compare(own, write_side("edited", project=second))
    assert regressions(edited, "accuracy=1") == [
        "accuracy: not comparable: code that the metric may use differs (metric.py)"
    ]
    assert "- code metric.py: 111111111111 → 222222222222" in to_markdown(edited, (), ())
    helped, other = (first.model_copy(update={"code": {**first.code, "lib/helper.py": digit * 64}}) for digit in "34")
    before = write_side("helped", project=helped)
    for name, project in (("helper", other), ("without", first)):
        (told,) = regressions(compare(before, write_side(name, project=project)), "accuracy=1")
        assert told == "accuracy: not comparable: code that the metric may use differs (lib/helper.py)"
    built_in, trained = (
        item.model_copy(update={"settings": old.manifest.project.settings}) for item in (first, second)
    )  # the code is that of a loss
    pair = write_side("built in", project=built_in), write_side("trained otherwise", project=trained)
    assert regressions(compare(*pair), "accuracy=1") == []
    machine = Machine(arch="x86_64", cpu="faster", features=("avx2",), cores=2)
    twin = Speed(ratio=2.0, low=1.9, high=2.1, float_ms=2.0, runs=20)
    wide = {**old.manifest.project.settings, "model": {"arguments": {"width": 2}, "inputs": []}}
    project = old.manifest.project.model_copy(update={"settings": wide})
    before = write_side("before", measured=(make_measurement(speed=twin),))
    there = (make_measurement(machine=machine, speed=twin),)
    wider = compare(before, write_side("wider", measured=there, project=project))
    assert "so does what [model] arguments says" in regressions(wider, "latency=10%")[0]
    assert "- setting model.arguments.width: none → 2" in to_markdown(wider, (), ())


def test_what_vanished_or_fails_is_a_regression(write_side: Write, make_measurement: Make) -> None:
    kept = make_measurement()
    other = make_measurement(artifact="model.tflite", runtime="tflite-runtime")
    plain = make_measurement(artifact="model.tflite", runtime="not asked for", judged=False)
    old = write_side("old", measured=(kept, other, plain))
    reason = "its toolchain is broken"
    gone = (Coverage(subject="model.tflite", state="not built", reason=reason),)
    comparison = compare(old, write_side("gone", measured=(kept,), coverage=gone, complete=False))
    assert [row.state for row in comparison.rows] == ["compared", "gone", "gone"]
    assert regressions(comparison, "size=5%") == [f"gone: NEW has no such artifact: {reason}"]
    assert judge(comparison, ()) == ()  # without limits nothing is judged
    failed = other.model_copy(update={"failure": "no kernel", "metric": None, "agreement": None, "latency": None})
    comparison = compare(old, write_side("fails", measured=(kept, failed, plain)))
    assert regressions(comparison, "size=5%") == ["fails now: no kernel"]
    back = compare(write_side("before", measured=(kept, failed)), write_side("after", measured=(kept, other, plain)))
    assert [row.state for row in back.rows] == ["compared", "runs now", "new"]
    assert judge(back, ALL) == ()
    text = to_markdown(back, (), ())
    assert "- model.tflite in tflite-runtime: runs now: it did not run in OLD: no kernel" in text
    assert "- model.tflite in not asked for: new" in text


def test_runtimes_that_are_not_judged_are_only_told(write_side: Write, make_measurement: Make) -> None:
    worse = dropped(make_measurement, 50.0)
    judged, plain = make_measurement(runtime="own"), {"judged": False}
    old = write_side("old", measured=(judged, make_measurement(**plain)))
    comparison = compare(old, write_side("new", measured=(judged, worse.model_copy(update=plain))))
    assert judge(comparison, ALL) == ()
    assert "96.50 % → 50.00 % (-46.50)" in to_markdown(comparison, ALL, ())
    assert "onnxruntime (not judged)" in to_markdown(comparison, ALL, ())


NOTHING = "accuracy: nothing was compared: no runtime that gates judge ran in both bundles"


def test_a_limit_for_which_nothing_was_compared_fails(write_side: Write, make_measurement: Make) -> None:
    none: dict[str, Any] = {"accuracy": ()}
    failed = {"measured": (make_measurement(failure="no kernel", metric=None, agreement=None, latency=None),)}
    plain = {"measured": (make_measurement(judged=False),)}
    for name, kept in {"none": none, "failed": failed, "plain": plain}.items():
        comparison = compare(write_side(f"old {name}", **kept), write_side(f"new {name}", size=2458, **kept))
        assert regressions(comparison, "accuracy=0.5", "data", "machine") == [NOTHING]
        assert len(regressions(comparison, "accuracy=0.5,agreement=1,latency=10%,memory=10%,size=25%")) == 4
        told = judge(comparison, parse_limits(["accuracy=0.5,size=5%"]))
        assert [str(item) for item in told] == [
            "model.onnx: size: 0.4 KiB (20.0 %) worse than before, 5% allowed",  # sizes need no measurement
            NOTHING,
        ]
        text = to_markdown(comparison, ALL, told)
        assert text.startswith("## x86-64-int8: 2 regressions\n")
        assert "- **accuracy**: nothing was compared: no runtime" in text
        assert "- **size** of model.onnx: 0.4 KiB" in text
        assert "| **2.0 KiB → 2.4 KiB (+20.0 %)** |" in text
        assert judge(comparison, ()) == ()
    first = compare(write_side("before", **none), write_side("after"))
    assert regressions(first, "accuracy=0.5") == [NOTHING]


def test_files_that_nothing_was_measured_of_are_compared_too(write_side: Write, make_measurement: Make) -> None:
    kept, other = make_measurement(), make_measurement(artifact="model.tflite")
    accuracy = {"accuracy": (accuracy_of(kept),)}
    old = write_side("old", measured=(kept, other), **accuracy)
    gone = compare(old, write_side("gone", measured=(kept,), **accuracy))
    (told,) = judge(gone, ALL)
    assert str(told) == "model.tflite: gone: NEW has no such artifact"
    text = to_markdown(gone, ALL, (told,))
    assert "| model.tflite | - | gone | - | - | - | - | - |" in text
    assert "- model.tflite: gone: NEW has no such artifact" in text
    other_name = write_side("renamed", artifacts=(), accuracy=())
    nothing = compare(write_side("empty", artifacts=(), accuracy=()), other_name)
    assert regressions(nothing, "size=5%") == ["size: nothing was compared: no artifact is in both bundles"]


def test_different_targets_are_refused_unless_asked_for(write_side: Write) -> None:
    old, new = write_side("old"), write_side("new", target="x86-64-fp32")
    with pytest.raises(UsageError, match="OLD is a bundle for x86-64-int8, NEW one for x86-64-fp32"):
        compare(old, new)
    comparison = compare(old, new, allow_other_target=True)
    assert to_markdown(comparison, (), ()).startswith("## x86-64-int8 → x86-64-fp32: compared, no limits set")


def test_what_else_differs_is_told(write_side: Write, make_measurement: Make) -> None:
    old = write_side("old")
    (record,) = old.manifest.artifacts
    floats = record.model_copy(update={"recipe": Recipe(calibration="mse", float_layers=("conv2",))})
    before = accuracy_of(make_measurement())
    ops = (
        OpCount(op="Conv", dtype="int8", reason="", count=1),
        OpCount(op="Conv", dtype="float32", reason="kept in float", count=2),
    )
    gaps = (*old.manifest.coverage, Coverage(subject="_fc_1", state="float32", reason="shared <weights> | tied"))
    new = write_side(
        "new",
        artifacts=(floats,),
        accuracy=(before.model_copy(update={"ops": ops, "runtime_version": "2.0"}),),
        coverage=gaps,
        toolchain={"python": "3.11.7", "onnx": "1.3"},
        source=old.manifest.source.model_copy(update={"weights_sha256": "7" * 64}),
    )
    comparison = compare(old, new)
    assert [(gap.place, gap.subject, gap.state) for gap in comparison.coverage_lost] == [
        ("model.onnx", "conv2", "float32"),
        ("", "_fc_1", "float32"),
        ("model.onnx in onnxruntime", "2 more Conv", "float32"),
    ]
    text = to_markdown(comparison, (), ())
    assert "- \\_fc_1: float32: shared &lt;weights&gt; \\| tied" in text
    assert "- model.onnx: int8, min-max ranges → int8, MSE ranges, 1 layer in float" in text
    assert "- onnx: 1.2.3 → 1.3" in text
    assert "- onnxruntime (runtime): 1.2.3 → 2.0" in text
    assert "- weights: none → 777777777777" in text
    assert compare(new, new).coverage_lost == ()


def test_times_may_be_missing_or_damaged_and_fail_their_limits_only(write_side: Write, tmp_path: Path) -> None:
    old, new = write_side("old"), write_side("new")
    (tmp_path / "old" / MEASUREMENTS).unlink()
    (tmp_path / "new" / MEASUREMENTS).write_text("{")
    assert regressions(compare(read_side(tmp_path / "old"), new), "accuracy=1,latency=10%") == [
        f"latency: not comparable: OLD was not timed: it has no {MEASUREMENTS}"
    ]
    damaged = regressions(compare(old, read_side(tmp_path / "new")), "memory=10%")
    assert damaged == [f"memory: not comparable: NEW was not timed: its {MEASUREMENTS} cannot be read"]


def test_a_bundle_that_was_tampered_with_is_not_compared(write_side: Write, tmp_path: Path) -> None:
    write_side("old")
    (tmp_path / "old" / "model.onnx").write_bytes(b"y" * 2048)
    with pytest.raises(BundleError, match=r"model\.onnx: changed"):
        read_side(tmp_path / "old")


def test_the_table_has_figures_and_marks_what_is_worse(write_side: Write, make_measurement: Make) -> None:
    comparison = compare(write_side("old"), write_side("new", measured=(dropped(make_measurement, 95.5),)))
    found = judge(comparison, ALL)
    text = to_markdown(comparison, ALL, found)
    assert text.startswith("## x86-64-int8: 1 regression\n")
    (row,) = [line for line in text.splitlines() if line.startswith("| model.onnx")]
    assert row == (
        "| model.onnx | onnxruntime | **96.50 % → 95.50 % (-1.00)** | 0.75 (-0.25 to 1.75) | 98.50 % | 2.0 KiB "
        "| 1.125 ms | 81.0 MB |"
    )
