"""Which ops are named when int8 is the slower, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgec.backends.interface import OpRecord, OpTime
from edgec.verify.blame import CONVERTS, SLOW_KERNEL, Profile, blame_lines, slow_ops, slower_line
from edgec.verify.records import Measurement, Speed

OPS = (
    OpRecord(name="q", op="Quantize", dtype="cast"),
    OpRecord(name="conv", op="QConv", dtype="int8", layer="conv"),
    OpRecord(name="d", op="Dequantize", dtype="cast", layer="conv"),
    OpRecord(name="soft", op="Softmax", dtype="float32", layer="soft", reason="no integer kernel"),
    OpRecord(name="fc", op="QLinear", dtype="int8", layer="fc"),
    OpRecord(name="shape", op="Reshape", dtype="int8"),
)
TWIN = (OpRecord(name="c", op="Conv", dtype="float32", layer="conv"),)


def times(**microseconds: float) -> list[OpTime]:
    layers = {"conv": "conv", "c": "conv", "soft": "soft", "s": "soft", "fc": "fc", "f": "fc"}
    return [OpTime(name=k, op=k, layer=layers.get(k, ""), microseconds=v) for k, v in microseconds.items()]


def test_with_times_the_costliest_come_first() -> None:
    artifact = Profile(OPS, times(q=10, conv=300, d=40, soft=500, fc=90, shape=60))
    twin = Profile(TWIN, times(c=100, s=450, f=400))
    found = slow_ops(artifact, twin)
    assert [(item.op, item.count, item.ms, item.float_ms, item.reason) for item in found] == [
        ("Softmax", 1, 0.5, 0.45, "no integer kernel"),
        ("QConv", 1, pytest.approx(0.3), pytest.approx(0.1), SLOW_KERNEL),
        ("Dequantize", 1, pytest.approx(0.04), None, CONVERTS),
    ]  # fc is faster than in float; q is too small; of the reshape nothing is known


def test_ops_of_one_layer_share_what_it_takes_in_float() -> None:
    ops = [OpRecord(name=name, op=name, dtype="int8", layer="block") for name in ("conv", "add")]
    told = [
        OpTime(name="conv", op="", layer="block", microseconds=300),
        OpTime(name="add", op="", layer="block", microseconds=100),
    ]
    twin = [OpTime(name=name, op=name, layer="block", microseconds=100) for name in ("c", "a")]
    found = slow_ops(Profile(ops, told), Profile((), twin))
    assert [(item.op, item.ms, item.float_ms) for item in found] == [
        ("conv", pytest.approx(0.3), pytest.approx(0.15)), ("add", pytest.approx(0.1), pytest.approx(0.05)),
    ]  # fmt: skip


def test_what_the_profiler_leaves_out_comes_last() -> None:
    found = slow_ops(Profile(OPS, times(soft=500, d=40)), Profile(()))
    assert [(item.op, item.ms) for item in found] == [("Softmax", 0.5), ("Dequantize", 0.04), ("Quantize", None)]


def test_ops_of_one_kind_are_added_up() -> None:
    ops = [OpRecord(name=f"q{k}", op="Quantize", dtype="cast") for k in range(3)]
    ops.append(OpRecord(name="same", op="Quantize", dtype="cast"))
    ops.append(OpRecord(name="same", op="Quantize", dtype="cast"))
    told = [OpTime(name=item.name, op=item.op, layer="", microseconds=10) for item in ops]
    (found,) = slow_ops(Profile(ops, told), Profile(()))
    assert (found.count, found.ms) == (5, pytest.approx(0.05))


def test_without_times_casts_and_float_ops_are_counted() -> None:
    ops = (*OPS, OpRecord(name="q2", op="Quantize", dtype="cast"))
    found = slow_ops(Profile(ops), Profile(TWIN, times(c=100)))
    assert [(item.op, item.count, item.ms, item.reason) for item in found] == [
        ("Quantize", 2, None, CONVERTS),
        ("Dequantize", 1, None, CONVERTS),
        ("Softmax", 1, None, "no integer kernel"),
    ]


def speed(**fields: Any) -> Speed:
    return Speed(**{"ratio": 0.7, "low": 0.6, "high": 0.8, "float_ms": 1.0, "runs": 20} | fields)


def test_lines(make_measurement: Callable[..., Measurement]) -> None:
    timed = slow_ops(Profile(OPS, times(q=0, soft=500, conv=300, d=0)), Profile(TWIN, times(c=100)))
    item = make_measurement(speed=speed(blame=timed, times_ops=True))
    assert slower_line(item) == (
        "model.onnx in onnxruntime is slower than its float32 twin on this machine: 0.70 times its speed "
        "(95 % interval 0.60 to 0.80)"
    )
    assert blame_lines(item) == (
        "1 x Softmax (float32) 0.500 ms: no integer kernel",
        f"1 x QConv (int8) 0.300 ms, in float32 0.100 ms: {SLOW_KERNEL}",
    )
    untimed = make_measurement(runtime="tflite-runtime", speed=speed(blame=slow_ops(Profile(OPS[3:4]), Profile(()))))
    assert blame_lines(untimed) == (
        "1 x Softmax (float32): no integer kernel",
        "tflite-runtime does not measure how long each op takes",
    )
    assert blame_lines(make_measurement(speed=speed(times_ops=True))) == ("no kind of op stands out",)
    assert blame_lines(make_measurement(speed=speed())) == (
        "all its ops are in the target's precision: their kernels are slower here than the float ones",
        "onnxruntime does not measure how long each op takes",
    )


@pytest.mark.parametrize("given", [None, speed(high=1.0), speed(ratio=1.3, high=1.4)])
def test_what_is_not_clearly_slower_is_not_told(
    given: Speed | None, make_measurement: Callable[..., Measurement]
) -> None:
    item = make_measurement(speed=given)
    assert slower_line(item) == ""
    assert blame_lines(item) == ()
