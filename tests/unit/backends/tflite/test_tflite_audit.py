"""The dtype audit: what counts as int8, and the reason where it is not."""

from __future__ import annotations

import pytest

from edgec.backends.tflite.audit import Operand, audit_op, coverage_of
from edgec.target.spec import Precision

FLOAT = Operand("float32", (1, 64), constant=False)
INT8 = Operand("int8", (1, 64), constant=False)
WEIGHTS = Operand("int8", (64, 64), constant=True)
FLOAT_WEIGHTS = Operand("float32", (8, 8), constant=True)


@pytest.mark.parametrize(
    ("op", "inputs", "precision", "dtype", "told"),
    [
        ("FULLY_CONNECTED", [INT8, WEIGHTS], "int8", "int8", ""),
        ("FULLY_CONNECTED", [FLOAT, WEIGHTS], "int8-dynamic", "int8", ""),
        ("FULLY_CONNECTED", [FLOAT, FLOAT_WEIGHTS], "int8-dynamic", "float32", "fewer than 1024"),
        ("CONV_3D", [FLOAT, FLOAT_WEIGHTS], "int8-dynamic", "float32", "no kernel of CONV_3D"),
        ("RELU", [FLOAT], "int8-dynamic", "float32", "weights only"),
        ("CUMSUM", [FLOAT], "int8", "float32", "no int8 form of CUMSUM"),
        ("ADD", [FLOAT, FLOAT], "int8", "float32", "among ops"),
        ("ADD", [FLOAT, FLOAT], "fp16", "float32", "storage only"),
        ("ADD", [FLOAT, FLOAT], "fp32", "float32", ""),
        ("QUANTIZE", [FLOAT], "int8", "float32", ""),
        ("ADD", [Operand("int32", (1,), constant=False)], "int8", "int32", ""),
    ],
)
def test_audit(op: str, inputs: list[Operand], precision: Precision, dtype: str, told: str) -> None:
    record = audit_op(op, "layer", inputs, "float32", precision)
    assert record.dtype == dtype
    assert (told in record.reason) if told else not record.reason


def test_coverage_counts_equal_ops_once() -> None:
    records = [audit_op("CUMSUM", f"layer{k}", [FLOAT], "float32", "int8") for k in range(3)]
    (item,) = coverage_of([*records, audit_op("ADD", "sum", [INT8, INT8], "int8", "int8")])
    assert item.subject == "CUMSUM (3 ops)"
    assert item.state == "float32"
