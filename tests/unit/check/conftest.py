"""Small projects that `check` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.check.records import Finding
from edgec.check.run import Checked, check

NODES = (
    helper.make_node("Conv", ["image", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["c"], ["r"], name="relu"),
    helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
    helper.make_node("Flatten", ["p"], ["f"], name="flat"),
    helper.make_node("MatMul", ["f", "m"], ["scores"], name="dense"),
)
TOML = '[model]\npath = "net.onnx"\n[calibration]\ndata = "c.npz"\n[evaluation]\ndata = "e.npz"\n'

Write = Callable[..., Path]
Look = Callable[..., Checked]


def write_net(
    path: Path,
    nodes: Sequence[Any] = NODES,
    *,
    shape: Sequence[int | str] = (1, 3, 8, 8),
    output: Sequence[int | str] = (1, 4),
    dtype: int = TensorProto.FLOAT,
    held: Mapping[str, Any] | None = None,
    name: str = "scores",
) -> None:
    """An ONNX file with the input ``image`` and one output; constants ``w`` (a 3x3 convolution) and ``m``."""
    draw = np.random.default_rng(0).standard_normal
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {"w": draw((6, 3, 3, 3)).astype(kind), "m": draw((6, 4)).astype(kind), **(held or {})}
    used = {item for node in nodes for item in node.input}
    graph = helper.make_graph(
        list(nodes), "net",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, output)],
        [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with nothing wrong: a net of 4 classes, 40 and 60 samples with the labels that it gives."""
    import onnxruntime

    write_net(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    for name, count in (("c", 40), ("e", 60)):
        x = (random.standard_normal((count, 3, 8, 8)) * random.random((count, 3, 1, 1)) * 3).astype(np.float32)
        y = np.array([session.run(None, {"image": one[None]})[0].argmax() for one in x])
        np.savez(tmp_path / f"{name}.npz", image=x, y=y)
    (tmp_path / "edgec.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def change() -> Callable[..., None]:
    """Changes arrays of an .npz."""

    def changed(path: Path, **arrays: Any) -> None:
        kept = dict(np.load(path)) | arrays
        np.savez(path, **{name: value for name, value in kept.items() if value is not None})

    return changed


@pytest.fixture
def look(folder: Path) -> Look:
    """What `check` finds in the project, for one target or more."""

    def run(*targets: str, **flags: Any) -> Checked:
        given = {("build", "targets"): list(targets or ("rpi4-int8",))}
        return check(folder, given | flags.get("given", {}))

    return run


def of_kind(checked: Checked, kind: str, severity: str = "error") -> list[Finding]:
    """The findings of a kind."""
    return [item for item in checked.findings if item.kind == kind and item.severity == severity]
