"""Whole builds of small real graphs: every precision, compared with the float model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from host_target import HOST_ISA
from torch import nn

from edgec.backends.interface import Artifact
from edgec.backends.onnxruntime.backend import BACKEND
from edgec.backends.onnxruntime.graph import OnnxModel
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.errors import DatasetError, InputSpecError, PassError, UnsupportedError
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import PassContext
from edgec.quant.recipe import Recipe
from edgec.target.spec import Device, Emit, Precision, QuantSpec, Target

FACTS = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")


def device(arch: str = "x86_64", isa: frozenset[str] = HOST_ISA) -> Device:
    return Device.model_validate(
        {
            "name": "board",
            "description": "",
            "arch": arch,
            "triple": "t",
            "cpu": "c",
            "isa": isa,
            "cores": 1,
            "ram_mb": 64,
            "sources": dict.fromkeys(FACTS, "test"),
        }
    )


def target(precision: Precision, on: Device | None = None, quantize: QuantSpec | None = None) -> Target:
    return Target(
        name="t",
        device=on or device(),
        precision=precision,
        emit=(Emit(backend="onnxruntime"),),
        quantize=quantize or QuantSpec(),
    )


class Case:
    """A module with random samples, and its builds."""

    def __init__(self, module: nn.Module, inputs: tuple[TensorSpec, ...], outputs: int, folder: Path) -> None:
        self.module, self.folder, self.inputs = module.eval(), folder, inputs
        random = np.random.default_rng(7)
        self.samples = [{spec.name: _random(spec, random) for spec in inputs} for _ in range(24)]
        found = self.reference(self.samples[0])
        self.outputs = tuple(
            TensorSpec(name=f"output_{k}", shape=found[k].shape, dtype=str(found[k].dtype)) for k in range(outputs)
        )
        source = ModelSource(format="onnx", path="m.onnx", sha256="0")
        self.model = FloatModel("net", source, inputs, self.outputs, onnx=self._export())
        spool = folder / "spool"
        spool.mkdir()
        for k, spec in enumerate(inputs):
            np.save(spool / f"{k}.npy", np.stack([sample[spec.name] for sample in self.samples]))
        info = SpoolInfo(
            inputs=inputs, samples=len(self.samples), has_labels=False, content_digest="0", origin="random"
        )
        (spool / "spool.json").write_text(info.model_dump_json())
        self.spool = Spool(spool)

    def _export(self) -> Path:
        """The model as a user's own ONNX file, so that a failure here is this backend's."""
        file = self.folder / "model.onnx"
        arguments = tuple(torch.from_numpy(self.samples[0][spec.name]) for spec in self.inputs)
        with warnings.catch_warnings():  # with gradients: without them attention takes a path that has no ONNX op
            warnings.simplefilter("ignore")  # the exporter is deprecated, and the tracer warns on torch's own code
            torch.onnx.export(
                self.module,
                arguments,
                str(file),
                dynamo=False,
                opset_version=17,
                input_names=[spec.name for spec in self.inputs],
                output_names=[spec.name for spec in self.outputs],
            )
        return file

    def reference(self, sample: dict[str, Array]) -> list[Array]:
        with torch.inference_mode():
            out = self.module(*(torch.from_numpy(sample[spec.name]) for spec in self.inputs))
        return [item.numpy() for item in (out if isinstance(out, tuple) else (out,))]

    def build(self, aim: Target, name: str = "out") -> tuple[Artifact, Path, OnnxModel]:
        work = self.folder / f"work-{name}"
        work.mkdir()
        context = PassContext(target=aim, work=work, calibration=self.spool, emit=aim.emit[0])
        lowered = BACKEND.lower(self.model, context)
        for step in BACKEND.passes(aim, aim.emit[0], Recipe()):
            if step.requires(lowered, context) is None:
                before = BACKEND.fingerprint(lowered)
                result = step.run(lowered, context).model
                assert BACKEND.fingerprint(lowered) == before, f"{step.name} changed its input"
                lowered = result
                assert step.ensures(lowered, context) is None
        out = self.folder / name
        artifact = BACKEND.emit(lowered, context, out)
        return artifact, out / artifact.file, lowered

    def sqnr(self, artifact: Artifact, file: Path) -> list[float]:
        run = BACKEND.runner(artifact, file, "onnxruntime", 1)
        signal, noise = np.zeros(len(self.outputs)), np.zeros(len(self.outputs))
        for sample in self.samples:
            got = run(sample)
            for k, wanted in enumerate(self.reference(sample)):
                value = got[self.outputs[k].name]
                assert value.shape == wanted.shape
                assert value.dtype == wanted.dtype
                signal[k] += np.square(wanted.astype(np.float64)).sum()
                noise[k] += np.square(wanted.astype(np.float64) - value).sum()
        return [float(item) for item in 10 * np.log10(signal / np.maximum(noise, 1e-30))]


def _random(spec: TensorSpec, random: np.random.Generator) -> Array:
    if spec.name == "mask":
        mask = np.ones(spec.shape, np.int64)
        mask[:, random.integers(4, spec.shape[1]) :] = 0
        return mask
    if spec.dtype == "int64":
        return random.integers(0, 50, spec.shape)
    return random.normal(size=spec.shape).astype(np.float32)


class Depthwise(nn.Module):
    """ "SAME" padding at stride 2, ReLU6, a residual, and an average pool over the whole plane."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.down = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(8, 8, 3, 2, groups=8), nn.ReLU6())
        self.pool = nn.AvgPool2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.down(x + self.branch(x))
        return self.head(torch.flatten(self.pool(x), 1))


class Encoder(nn.Module):
    """A transformer whose two layers are copies, so that the exporter shares their weights; a -inf mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embedding(ids), src_key_padding_mask=mask == 0).mean(1))


class Recurrent(nn.Module):
    """One LSTM called twice, and an embedding tied to the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x, _ = self.lstm(self.embedding(ids))
        x, _ = self.lstm(x)
        return self.head(x[:, -1])


class Detector(nn.Module):
    """Several outputs, one of them integer, and ops without 8-bit kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.1))
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.box = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.body(x)
        return self.box(x), self.up(x).softmax(1), x.argmax(1)


IMAGE = TensorSpec(name="x", shape=(1, 3, 16, 16))
IDS = TensorSpec(name="ids", shape=(1, 8), dtype="int64")
MASK = TensorSpec(name="mask", shape=(1, 8), dtype="int64")


def case(kind: type[nn.Module], folder: Path) -> Case:
    torch.manual_seed(0)
    inputs = {Encoder: (IDS, MASK), Recurrent: (IDS,)}.get(kind, (IMAGE,))
    return Case(kind(), inputs, 3 if kind is Detector else 1, folder)


@pytest.mark.parametrize("kind", [Depthwise, Encoder, Recurrent, Detector])
@pytest.mark.parametrize(("precision", "least"), [("fp32", 100), ("fp16", 45)])
def test_float_precisions_match_the_model(
    kind: type[nn.Module], precision: Precision, least: float, tmp_path: Path
) -> None:
    built = case(kind, tmp_path)
    artifact, file, _ = built.build(target(precision))
    assert min(built.sqnr(artifact, file)[:2]) > least


@pytest.mark.parametrize("kind", [Depthwise, Encoder, Recurrent])
@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("isa", list(dict.fromkeys([frozenset({"avx2"}), HOST_ISA])))
def test_int8_precisions_stay_close(
    kind: type[nn.Module], precision: Precision, isa: frozenset[str], tmp_path: Path
) -> None:
    # Shared Gemm weights transposed twice gave 6 dB, a quantized -inf mask gives less than 0.
    built = case(kind, tmp_path)
    artifact, file, _ = built.build(target(precision, device(isa=isa)))
    assert built.sqnr(artifact, file)[0] > 25


def test_static_depthwise_net_runs_in_int8_throughout(tmp_path: Path) -> None:
    built = case(Depthwise, tmp_path)
    artifact, file, lowered = built.build(target("int8"))
    ops = BACKEND.runner(artifact, file, "onnxruntime", 1).ops()
    assert [op for op in ops if op.dtype.startswith("float")] == []
    assert sum(op.op == "QLinearConv" for op in ops) == 3
    assert {"Pad", "Clip", "Relu", "BatchNormalization"} & {node.op_type for node in lowered.proto.graph.node} == set()
    assert artifact.coverage == ()
    assert artifact.outputs[0].step is not None
    assert artifact.outputs[0].step > 0


def test_detector_names_what_stays_float(tmp_path: Path) -> None:
    built = case(Detector, tmp_path)
    artifact, file, _ = built.build(target("int8"))
    assert built.sqnr(artifact, file)[0] > 25
    reasons = [item.reason for item in artifact.coverage]
    assert any("ConvTranspose" in reason and "transposed" in reason for reason in reasons)
    assert any("Softmax" in reason for reason in reasons)
    assert [item.dtype for item in artifact.outputs] == ["float32", "float32", "int64"]


def test_dynamic_says_why_convolutions_stay_float(tmp_path: Path) -> None:
    artifact, _, _ = case(Depthwise, tmp_path).build(target("int8-dynamic"))
    assert any(item.state == "float32" and "Conv: no dynamic" in item.reason for item in artifact.coverage)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_a_model_without_products_is_refused(precision: Precision, tmp_path: Path) -> None:
    built = Case(nn.Sequential(nn.Tanh(), nn.Softmax(1)), (IMAGE,), 1, tmp_path)
    with pytest.raises(UnsupportedError, match="nothing of the model"):
        built.build(target(precision))


def test_a_torch_module_is_lowered_like_its_onnx_file(tmp_path: Path) -> None:
    built = case(Depthwise, tmp_path)
    from_file = onnx.load(built.build(target("int8"), "file")[1])
    built.model = replace(built.model, module=built.module, onnx=None)
    artifact, file, _ = built.build(target("int8"), "module")
    assert built.sqnr(artifact, file)[0] > 25
    from_module = onnx.load(file)
    assert [node.op_type for node in from_module.graph.node] == [node.op_type for node in from_file.graph.node]


def test_static_without_calibration_is_refused(tmp_path: Path) -> None:
    built = case(Depthwise, tmp_path)
    aim = target("int8")
    context = PassContext(target=aim, work=tmp_path, emit=aim.emit[0])
    lowered = BACKEND.lower(built.model, context)
    collect, quantize = BACKEND.passes(aim, aim.emit[0], Recipe())[-2:]
    with pytest.raises(DatasetError, match="calibration"):
        collect.run(lowered, context)
    with pytest.raises(PassError, match="no statistics"):
        quantize.run(lowered, context)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8-dynamic"])
def test_the_same_model_gives_the_same_bytes(precision: Precision, tmp_path: Path) -> None:
    built = case(Encoder, tmp_path)
    first, second = (built.build(target(precision), name)[1].read_bytes() for name in ("one", "two"))
    assert first == second
    assert str(tmp_path).encode() not in first


def test_runner_refuses_wrong_shapes_and_files(tmp_path: Path) -> None:
    built = case(Depthwise, tmp_path)
    artifact, file, _ = built.build(target("fp32"))
    run = BACKEND.runner(artifact, file, "onnxruntime", 1)
    with pytest.raises(InputSpecError, match="shape"):
        run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(InputSpecError, match="missing"):
        run({})
    file.write_bytes(b"not a model")
    with pytest.raises(UnsupportedError, match="refuses"):
        BACKEND.runner(artifact, file, "onnxruntime", 1)
