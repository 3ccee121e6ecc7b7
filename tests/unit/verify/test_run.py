"""Artifacts and float models run over spools for real: in ONNX Runtime, in torch, and in worker processes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgec.backends.interface import Artifact, RuntimeSpec, TensorBinding
from edgec.dataset.write import write_spool
from edgec.errors import InputSpecError, ModelError, UnsupportedError, WorkerError
from edgec.machine import host_machine
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.project.spec import DataSpec, Preprocess
from edgec.verify.measure import measure
from edgec.verify.metrics import choose_metric
from edgec.verify.outputs import OutputWriter, open_outputs
from edgec.verify.reference import float_outputs
from edgec.verify.requests import RunAnswer, RunRequest
from edgec.workers.worker import call

RUNTIME = RuntimeSpec(name="onnxruntime", distribution="onnxruntime")
INPUTS = (TensorSpec(name="v", shape=(1, 6)),)
OUTPUTS = (TensorSpec(name="scores", shape=(1, 4)),)
WEIGHT = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)
SOURCE = ModelSource(format="onnx", path="m.onnx", sha256="0" * 64)


def linear_onnx(path: Path, weight: np.ndarray) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["in", "w"], ["out"])],
        "linear",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, weight.shape[1]])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def spool(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)).astype(np.float32)
    np.savez(tmp_path / "e.npz", x=x, y=(x @ WEIGHT).argmax(-1))
    spec = DataSpec(data="e.npz")
    return write_spool(
        spec, Preprocess(), INPUTS, tmp_path / "spool", tmp_path, samples=None, seed=0, what="evaluation"
    )


@pytest.fixture
def float_model(tmp_path):
    onnx_file = linear_onnx(tmp_path / "float.onnx", WEIGHT)
    return FloatModel("m", SOURCE, INPUTS, OUTPUTS, onnx=onnx_file)


def artifact(classes: int = 4) -> Artifact:
    return Artifact(
        backend="onnxruntime",
        format="onnx",
        file="model.onnx",
        precision="fp32",
        inputs=(TensorBinding(name="v", artifact_name="in", shape=(1, 6), dtype="float32"),),
        outputs=(TensorBinding(name="scores", artifact_name="out", shape=(1, classes), dtype="float32"),),
    )


def run(tmp_path, spool, file, **changes):
    request = RunRequest(
        artifact=artifact(changes.pop("classes", 4)),
        file=file,
        runtime="onnxruntime",
        spool=spool.folder,
        out=tmp_path / "out",
        threads=1,
    )
    return call("edgec.verify.run:run_artifact", request, RunAnswer, log=tmp_path / "log", what="m")


def judge_by(tmp_path, spool, float_model, result, file):
    reference = float_outputs(float_model, spool, tmp_path / "float", 1)
    metric = choose_metric("auto", OUTPUTS, spool.labels, tmp_path)
    return measure(artifact(), file, RUNTIME, result, reference, metric, host_machine())


def test_an_artifact_is_run_audited_and_measured(tmp_path, spool, float_model):
    worse = WEIGHT + np.random.default_rng(1).normal(size=WEIGHT.shape).astype(np.float32) * 0.3
    file = linear_onnx(tmp_path / "model.onnx", worse)
    measured = judge_by(tmp_path, spool, float_model, run(tmp_path, spool, file), file)
    x = np.stack([sample["v"][0] for sample in spool])
    wanted, got = x @ WEIGHT, x @ worse
    right = float(np.mean(wanted.argmax(-1) == got.argmax(-1)))
    assert 0.5 < right < 1
    assert measured.agreement == pytest.approx(right)
    assert measured.metric.name == "top1"
    assert measured.metric.drop == pytest.approx(100 * (1 - right))
    sqnr = 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())
    assert measured.sqnr_db() == pytest.approx(sqnr, rel=1e-4)
    assert [item.dtype for item in measured.ops if item.op.startswith("MatMul")] == ["float32"]
    assert measured.peak_rss_mb > 20
    assert measured.size_bytes == file.stat().st_size
    assert type(measured).model_validate_json(measured.model_dump_json()) == measured


def test_a_runtime_that_refuses_is_a_failure_not_an_error(tmp_path, spool, float_model):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no onnx at all")
    measured = judge_by(tmp_path, spool, float_model, run(tmp_path, spool, file), file)
    assert measured.failure
    assert (measured.metric, measured.samples, measured.fidelity) == (None, 0, ())


def test_an_artifact_of_another_shape_is_a_failure(tmp_path, spool, float_model):
    file = linear_onnx(tmp_path / "model.onnx", WEIGHT[:, :3])
    measured = judge_by(tmp_path, spool, float_model, run(tmp_path, spool, file, classes=3), file)
    assert "shape [1, 3], the float model [1, 4]" in measured.failure


def test_a_crashed_worker_is_a_failure(tmp_path, spool, float_model):
    file = linear_onnx(tmp_path / "model.onnx", WEIGHT)
    measured = judge_by(tmp_path, spool, float_model, WorkerError("the toolchain crashed (SIGSEGV)"), file)
    assert "SIGSEGV" in measured.failure


def test_torch_and_onnx_give_the_same_reference(tmp_path, spool, float_model):
    class Linear(torch.nn.Module):
        def forward(self, v):
            return v @ torch.from_numpy(WEIGHT)

    eager = FloatModel("m", SOURCE, INPUTS, OUTPUTS, module=Linear().eval())
    threads = torch.get_num_threads()
    ours = float_outputs(eager, spool, tmp_path / "t", 1)["scores"]
    assert torch.get_num_threads() == threads
    theirs = float_outputs(float_model, spool, tmp_path / "o", 1)["scores"]
    assert ours.shape == theirs.shape == (40, 1, 4)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("forward", "error", "message"),
    [
        (lambda v: v / 0 * 0, ModelError, "is NaN on sample 0"),
        (lambda v: v @ torch.zeros(7, 4), InputSpecError, "fails on sample 0"),
        (lambda v: v[:, : 1 + int(v[0, 0] > 0)], UnsupportedError, "of the first sample"),
    ],
)
def test_float_models_that_cannot_be_a_reference(tmp_path, spool, forward, error, message):
    class Odd(torch.nn.Module):
        def forward(self, v):
            return forward(v)

    with pytest.raises(error, match=message):
        float_outputs(FloatModel("m", SOURCE, INPUTS, OUTPUTS, module=Odd()), spool, tmp_path / "f", 1)


def test_output_names_may_hold_slashes(tmp_path):
    writer = OutputWriter(tmp_path / "inner" / "o", 2)
    for index in range(2):
        writer.put(index, {"a/b": np.full((1, 2), index), "../c": np.ones(1)})
    found = open_outputs(writer.close())
    assert found["a/b"][1].tolist() == [[1, 1]]
    assert sorted(item.name for item in tmp_path.rglob("*.npy")) == ["0.npy", "1.npy"]
    assert [item.name for item in (tmp_path / "inner").iterdir()] == ["o"]
    assert [item.name for item in tmp_path.iterdir()] == ["inner"]
