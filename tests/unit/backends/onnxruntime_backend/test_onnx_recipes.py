"""What recipes ask for is what the artifact holds: scales, codes, float layers; read back from the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from host_target import HOST_ISA
from onnx import numpy_helper
from torch import nn

from edgec.backends.interface import Artifact, OpRecord
from edgec.backends.onnxruntime.backend import BACKEND
from edgec.backends.onnxruntime.capability import FLOAT_PRODUCTS, INTEGER_PRODUCTS
from edgec.backends.onnxruntime.exclude import RECIPE_REASON
from edgec.backends.onnxruntime.graph import OnnxModel
from edgec.backends.onnxruntime.observe import SAMPLE_VALUES, with_observations
from edgec.backends.onnxruntime.runner import OnnxRunner
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.errors import PassError, UnsupportedError
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import RangeMethod, Recipe
from edgec.target.spec import Device, Emit, Precision, QuantSpec, Target

FACTS = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")
X = TensorSpec(name="x", shape=(1, 3, 32, 32))
PRODUCTS = INTEGER_PRODUCTS | FLOAT_PRODUCTS
LAYERS = ["stem", "depthwise", "narrow", "wide", "head"]


class Net(nn.Module):
    """Layers with ReLU6, ReLU and nothing after them, a residual, a pool, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.narrow = nn.Conv2d(16, 16, 1)
        self.wide = nn.Linear(16, 32)
        self.head = nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.stem(x))
        x = x + self.narrow(nn.functional.relu(self.depthwise(x)))
        x = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(nn.functional.relu(self.wide(x)))


@dataclass
class Built:
    model: OnnxModel
    calibrated: OnnxModel | None
    quantized: OnnxModel
    coverage: list[Coverage]
    artifact: Artifact
    file: Path
    context: PassContext

    def ops(self) -> Sequence[OpRecord]:
        return self.runner().ops()

    def runner(self) -> OnnxRunner:
        runner = BACKEND.runner(self.artifact, self.file, "onnxruntime", 1)
        assert isinstance(runner, OnnxRunner)
        return runner

    def constants(self) -> dict[str, Array]:
        return {item.name: numpy_helper.to_array(item) for item in onnx.load(self.file).graph.initializer}


def make_target(precision: Precision, isa: frozenset[str], quantize: QuantSpec) -> Target:
    facts = {"arch": "x86_64", "triple": "t", "cpu": "c", "isa": isa, "cores": 1, "ram_mb": 64}
    board = {"name": "board", "description": "", "sources": dict.fromkeys(FACTS, "test"), **facts}
    emit = Emit(backend="onnxruntime")
    device = Device.model_validate(board)
    return Target(name="t", device=device, precision=precision, emit=(emit,), quantize=quantize)


def build(
    folder: Path,
    recipe: Recipe | None = None,
    *,
    net: nn.Module | None = None,
    precision: Precision = "int8",
    isa: frozenset[str] = HOST_ISA,
    quantize: QuantSpec | None = None,
) -> Built:
    torch.manual_seed(3)
    net = (net or Net()).eval()
    folder.mkdir(exist_ok=True)
    samples = np.random.default_rng(5).normal(size=(12, *X.shape)).astype(np.float32)
    np.save(folder / "0.npy", samples)
    info = SpoolInfo(inputs=(X,), samples=12, has_labels=False, content_digest="0", origin="random")
    (folder / "spool.json").write_text(info.model_dump_json())
    with torch.no_grad():
        outputs = tuple(net(torch.from_numpy(samples[0])).shape)
    source = ModelSource(format="python", path="net.py", sha256="0")
    float_model = FloatModel("net", source, (X,), (TensorSpec(name="y", shape=outputs),), module=net)
    aim = make_target(precision, isa, quantize or QuantSpec())
    context = PassContext(target=aim, work=folder, calibration=Spool(folder), emit=aim.emit[0])
    lowered = model = BACKEND.lower(float_model, context)
    calibrated, coverage = None, []
    for step in BACKEND.passes(aim, aim.emit[0], recipe or Recipe()):
        result = step.run(model, context)
        model = result.model
        coverage += result.coverage
        assert step.ensures(model, context) is None
        calibrated = model if step.name == "collect-ranges" else calibrated
    artifact = BACKEND.emit(model, context, folder / "out")
    return Built(lowered, calibrated, model, coverage, artifact, folder / "out" / artifact.file, context)


@pytest.mark.parametrize("method", ["minmax", "moving-average", "percentile", "mse"])
def test_scales_of_the_artifact_are_the_chosen_ranges(method: RangeMethod, tmp_path: Path) -> None:
    built = build(tmp_path, Recipe(calibration=method))
    constants = built.constants()
    assert built.calibrated is not None
    compared = 0
    for tensor, statistics in built.calibrated.statistics.items():
        if f"{tensor}_scale" not in constants:
            continue
        assert statistics is not None
        low, high = choose_range(statistics, "minmax" if tensor == "y" else method)
        assert constants[f"{tensor}_scale"] == pytest.approx((high - low) / 255, rel=1e-6)
        assert constants[f"{tensor}_zero_point"] == round(-low / ((high - low) / 255))
        compared += 1
    assert compared >= 7


def test_recipes_share_their_statistics() -> None:
    aim = make_target("int8", HOST_ISA, QuantSpec())

    def before_last(recipe: Recipe) -> object:
        return BACKEND.passes(aim, aim.emit[0], recipe)[:-1]

    assert before_last(Recipe()) == before_last(Recipe(calibration="moving-average", float_layers=("a",)))
    assert before_last(Recipe(calibration="mse")) == before_last(Recipe(calibration="entropy"))
    assert before_last(Recipe()) != before_last(Recipe(calibration="mse"))


@pytest.mark.parametrize(
    "kept", [*((name,) for name in LAYERS), *(tuple(sorted({*LAYERS} - {name})) for name in LAYERS)], ids="-".join
)
def test_these_layers_and_only_these_stay_float(kept: tuple[str, ...], tmp_path: Path) -> None:
    built = build(tmp_path, Recipe(float_layers=tuple(sorted(kept))))
    assert [layer.name for layer in BACKEND.layers(built.model)] == LAYERS
    products = {op.layer: op for op in built.ops() if op.layer in LAYERS and op.op in PRODUCTS}
    assert {name for name, op in products.items() if op.dtype == "float32"} == {*kept}
    assert {name for name, op in products.items() if op.dtype == "int8"} == {*LAYERS} - {*kept}
    assert all(products[name].reason == RECIPE_REASON for name in kept)
    assert {item.subject for item in built.coverage if item.reason == RECIPE_REASON} == {*kept}


def test_one_int8_layer_is_all_the_noise_there_is(tmp_path: Path) -> None:
    # A pool, a sum or an activation that got QDQ pairs of its own would add its error to the layer's.
    built = build(tmp_path, Recipe(float_layers=("depthwise", "head", "stem", "wide")))
    proto = onnx.load(built.file)
    quantized = {node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    assert len(quantized) == 2
    found = {item.layer: item.sqnr_db for item in BACKEND.compare_layers(built.model, built.quantized, built.context)}
    assert found["stem"] == found["depthwise"] == float("inf")
    assert 25 < found["narrow"] < 60


def test_unknown_layers_are_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(PassError, match='did you mean "stem"'):
        build(tmp_path, Recipe(float_layers=("stemm",)))
    with pytest.raises(UnsupportedError, match="5 of 5 layers in float"):
        build(tmp_path, Recipe(float_layers=tuple(LAYERS)))


def test_error_grows_from_layer_to_layer(tmp_path: Path) -> None:
    built = build(tmp_path)
    found = BACKEND.compare_layers(built.model, built.quantized, built.context)
    assert [item.layer for item in found] == LAYERS
    assert [item.op for item in found] == ["conv2d", "depthwise-conv2d", "conv2d", "linear", "linear"]
    assert all(20 < item.sqnr_db < 60 for item in found)
    assert found[0].sqnr_db > found[2].sqnr_db


def on_grid(limit: int) -> tuple[nn.Module, dict[str, Array]]:
    """A net whose weights are codes times a scale a channel, with +-`limit` in each channel; and the codes."""
    torch.manual_seed(1)
    net = Net()
    codes: dict[str, Array] = {}
    random = np.random.default_rng(limit)
    for name, module in net.named_children():
        assert isinstance(module, nn.Conv2d | nn.Linear)
        shape = module.weight.shape
        code = random.integers(-limit, limit + 1, shape)
        code.reshape(shape[0], -1)[:, 0] = np.where(np.arange(shape[0]) % 2, limit, -limit)
        scale = random.uniform(0.5, 2.0, shape[0]).reshape(-1, *(1,) * (len(shape) - 1)) / limit / 3
        module.weight.data = torch.from_numpy((code * scale).astype(np.float32))
        codes[name] = code
    return net, codes


@pytest.mark.parametrize(
    ("isa", "reduced", "limit", "middle"),
    [
        (frozenset({"avx2", "avx512-vnni"}), "auto", 127, 0),
        (frozenset({"avx2"}), "auto", 127, 128),
        (frozenset({"avx2"}), "yes", 64, 0),
    ],
)
def test_weights_on_the_grid_keep_their_codes(
    isa: frozenset[str], reduced: str, limit: int, middle: int, tmp_path: Path
) -> None:
    net, codes = on_grid(limit)
    quantize = QuantSpec.model_validate({"reduced_range": reduced})
    built = build(tmp_path, net=net, isa=isa, quantize=quantize)
    grid = BACKEND.weight_grid(built.context.target, built.context.target.emit[0])
    assert (grid.limit, grid.per_channel) == (limit, True)
    constants = built.constants()
    for name, code in codes.items():
        stored = next(value for key, value in constants.items() if key.endswith(f"{name}.weight_quantized"))
        np.testing.assert_array_equal(stored.astype(int) - middle, code)


def test_int16_activations_are_refused() -> None:
    aim = make_target("int8", frozenset({"avx2"}), QuantSpec())
    assert BACKEND.reasons_against_recipe(aim, aim.emit[0], Recipe(activations="int16"))
    assert not BACKEND.reasons_against_recipe(aim, aim.emit[0], Recipe(calibration="entropy", float_layers=("a",)))


def test_a_large_feature_map_is_sampled_and_its_extremes_are_exact(tmp_path: Path) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 64, 3, padding=1)
            self.out = nn.Conv2d(64, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.relu(self.conv(x)))

    built = build(tmp_path, Recipe(calibration="percentile"), net=Large())
    proto, watched = with_observations(built.model, histogram=True)
    assert [item.rectified for item in watched] == [False, True, False]
    assert [bool(item.extremes) for item in watched] == [False, True, False]
    assert sum(node.op_type == "MaxPool" for node in proto.graph.node) == 1
    assert built.calibrated is not None
    statistics = built.calibrated.statistics[watched[1].tensor]
    assert statistics is not None
    assert 12 * SAMPLE_VALUES / 2 < statistics.elements < 12 * SAMPLE_VALUES * 2
    whole = build(tmp_path / "minmax", net=Large())
    assert whole.calibrated is not None
    exact = whole.calibrated.statistics[watched[1].tensor]
    assert exact is not None
    assert (exact.low, exact.high) == (statistics.low, statistics.high)


def test_op_times_name_the_executed_ops_and_layers(tmp_path: Path) -> None:
    built = build(tmp_path)
    runner = built.runner()
    assert built.context.calibration is not None
    times = runner.op_times(built.context.calibration[0], 3)
    assert {(item.name, item.op) for item in times} == {(op.name, op.op) for op in runner.ops()}
    assert {*LAYERS} <= {item.layer for item in times}
    assert all(item.microseconds >= 0 for item in times)
    assert sum(item.microseconds for item in times) > 0


def test_transposed_convolutions_between_int8_layers_keep_their_float_weights(tmp_path: Path) -> None:
    # The runtime would round them to int8 per tensor by itself and dequantize them at each run.
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(3, 8, 3, 2, 1)
            self.up = nn.ConvTranspose2d(8, 8, 2, 2)
            self.out = nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.up(self.down(x)))

    built = build(tmp_path, net=Up())
    ops = built.ops()
    assert sum(op.op == "ConvTranspose" for op in ops) == 1
    assert sum(op.op == "QLinearConv" for op in ops) == 2
    assert sum(op.op == "DequantizeLinear" for op in ops) == 2  # before `up`, and at the output
