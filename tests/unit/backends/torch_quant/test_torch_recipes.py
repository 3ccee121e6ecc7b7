"""Recipes: calibration methods, layers in float, the weights' grid, and where the error enters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from host_target import HOST_ISA
from torch import nn

from edgec.backends.registry import get_backend
from edgec.errors import PassError
from edgec.passes.contract import PassContext
from edgec.passes.runner import run_passes
from edgec.quant.qparams import qparams
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import RANGE_METHODS, RangeMethod, Recipe, WeightGrid
from edgec.target.spec import QuantSpec, Target

VNNI = ("avx2", "avx512-vnni")
VISION = {"stem.0": "conv2d", "depthwise.0": "depthwise-conv2d", "pointwise.0": "conv2d", "head": "linear"}
TANGLE = {
    "first": "conv2d",
    "second": "conv2d",
    "add": "add",
    "mul": "mul",
    "third": "conv2d",
    "add_1": "add",
    "head": "linear",
}
MakeTarget = Callable[..., Target]
Lowered = Callable[..., Any]


def context(model: Any, target: Target) -> PassContext:
    """Where passes run."""
    return PassContext(target=target, work=Path(), calibration=model.spool, emit=target.emit[0])


def quantized(ready: Any, target: Target, recipe: Recipe) -> Any:
    """The model after the passes of `recipe`."""
    backend = get_backend(target.emit[0].backend)
    passes = backend.passes(target, target.emit[0], recipe)
    return run_passes(passes, ready.lowered, context(ready, target), fingerprint=backend.fingerprint)[0]


def collected(ready: Any, target: Target, recipe: Recipe) -> Any:
    """The model before its last pass."""
    backend = get_backend(target.emit[0].backend)
    passes = backend.passes(target, target.emit[0], recipe)[:-1]
    return run_passes(passes, ready.lowered, context(ready, target), fingerprint=backend.fingerprint)[0]


def emitted(model: Any, ready: Any, target: Target, folder: Path) -> tuple[Any, Any]:
    """The artifact and what runs it."""
    backend = get_backend(target.emit[0].backend)
    artifact = backend.emit(model, context(ready, target), folder)
    return artifact, backend.runner(artifact, folder / artifact.file, "torch", 1)


def scales_in_file(folder: Path, artifact: Any) -> list[tuple[float, int]]:
    """Scale and zero-point of each tensor that ops of the file make, in the order of execution."""
    graph = torch.jit.load(str(folder / artifact.file)).inlined_graph  # type: ignore[no-untyped-call]
    found = []
    for node in graph.nodes():
        if node.kind().startswith("quantized::") or node.kind() == "aten::quantize_per_tensor":
            values = [item.toIValue() for item in node.inputs()]
            # the scale of a graph's input is a constant tensor, that of an op a number
            numbers = [value.item() if isinstance(value, torch.Tensor) else value for value in values]
            place = next(k for k, value in enumerate(numbers) if isinstance(value, float))
            found.append((float(numbers[place]), int(numbers[place + 1])))
    return found


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("method", RANGE_METHODS)
def test_scales_of_the_file_are_those_of_the_chosen_ranges(
    ready: Lowered, make_target: MakeTarget, tmp_path: Path, backend: str, method: RangeMethod
) -> None:
    target, recipe = (
        make_target(backend, isa=tuple(HOST_ISA) if backend == "fbgemm" else ()),
        Recipe(calibration=method),
    )
    model = ready("vision", target)
    statistics = collected(model, target, recipe).statistics
    artifact, _ = emitted(quantized(model, target, recipe), model, target, tmp_path)
    wanted = []
    for name in ("image", "stem_0", "depthwise_0", "pointwise_0", "head"):  # what stands in the graph's order
        # outputs are not clipped
        low, high = choose_range(statistics[name], "minmax" if name == "head" else method)
        wanted.append(qparams(low, high, low_code=0, high_code=255))
    found = scales_in_file(tmp_path, artifact)
    np.testing.assert_allclose([scale for scale, _ in found], [item.scale for item in wanted], rtol=1e-6)
    assert [zero for _, zero in found] == [item.zero_point for item in wanted]


def test_methods_choose_different_ranges(ready: Lowered, make_target: MakeTarget) -> None:
    target = make_target("qnnpack")
    model = ready("vision", target)
    spans = set()
    for method in RANGE_METHODS:
        statistics = collected(model, target, Recipe(calibration=method)).statistics
        spans.add(choose_range(statistics["stem_0"], method))
    assert len(spans) >= 4


def test_statistics_are_collected_once_for_all_recipes(make_target: MakeTarget) -> None:
    target = make_target("fbgemm", isa=VNNI)
    backend, emit = get_backend("fbgemm"), target.emit[0]

    def of(**fields: Any) -> Sequence[Any]:
        return backend.passes(target, emit, Recipe(**fields))

    assert of()[:-1] == of(calibration="moving-average")[:-1] == of(float_layers=("head",))[:-1]
    assert of(calibration="mse")[:-1] == of(calibration="entropy")[:-1] == of(calibration="percentile")[:-1]
    assert of()[-1] != of(calibration="moving-average")[-1] != of(float_layers=("head",))[-1]


def test_clamps_are_seen_after_they_clamp(ready: Lowered, make_target: MakeTarget) -> None:
    target = make_target("qnnpack")
    statistics = collected(ready("vision", target), target, Recipe()).statistics
    low, high = choose_range(statistics["pointwise_0"], "minmax")
    assert low >= 0
    assert high == pytest.approx(6)


@pytest.mark.parametrize(("name", "wanted"), [("vision", VISION), ("tangle", TANGLE)])
def test_layers_have_the_users_names_in_order(
    ready: Lowered, make_target: MakeTarget, name: str, wanted: dict[str, str]
) -> None:
    target = make_target("qnnpack")
    found = get_backend("qnnpack").layers(ready(name, target).lowered)
    assert [(item.name, item.op) for item in found] == list(wanted.items())


def test_transposed_convolutions_are_layers_where_they_are_quantized(ready: Lowered, make_target: MakeTarget) -> None:
    ops = {}
    for backend in ("fbgemm", "qnnpack"):
        model = ready("upscale", make_target(backend))
        ops[backend] = [item.op for item in get_backend(backend).layers(model.lowered)]
    assert ops == {"fbgemm": ["conv2d"], "qnnpack": ["conv2d", "conv-transpose2d", "conv-transpose2d"]}


@pytest.mark.parametrize(("backend", "name"), [("fbgemm", "vision"), ("qnnpack", "tangle")])
def test_the_named_layers_stay_in_float_and_of_others_only_sums_beside_them(
    ready: Lowered, make_target: MakeTarget, tmp_path: Path, backend: str, name: str
) -> None:
    target = make_target(
        backend, isa=tuple(HOST_ISA) if backend == "fbgemm" else (), engine="x86" if backend == "fbgemm" else None
    )
    model = ready(name, target)
    everything = set(VISION if name == "vision" else TANGLE)
    ops = {"conv2d": "convolution", "depthwise-conv2d": "convolution"}
    kinds = {layer: ops.get(op, op) for layer, op in (VISION if name == "vision" else TANGLE).items()}
    for kept in [{item} for item in everything] + [everything - {item} for item in everything]:
        recipe = Recipe(float_layers=tuple(sorted(kept)))
        integer = everything - kept
        if all(kinds[item] in ("add", "mul") for item in integer):
            continue  # a sum alone is no product, without which no artifact is int8
        result = quantized(model, target, recipe)
        artifact, runner = emitted(result, model, target, tmp_path)
        reasons = {(op.op, op.layer) for op in runner.ops() if op.reason == "kept in float by the recipe (sensitive)"}
        assert {(kinds[item], item) for item in kept} <= reasons
        assert {layer for _, layer in reasons} == kept
        beside = {op.op for op in runner.ops() if op.reason.startswith("computed in float, like the layers beside it")}
        assert not beside & {"convolution", "linear"}
        products = [op for op in runner.ops() if op.op in ("convolution", "linear")]
        assert len(products) == sum(kinds[item] in ("convolution", "linear") for item in kept)
        told = {item.subject for item in artifact.coverage if item.reason.startswith("kept in float by the recipe")}
        assert told == kept
        exact = model.answers()
        given = np.concatenate([runner(sample)["output_0"] for sample in model.samples])
        assert 10 * np.log10((exact**2).sum() / ((exact - given) ** 2).sum()) > 30


def test_all_in_float_but_the_ranges_do_not_move(ready: Lowered, make_target: MakeTarget, tmp_path: Path) -> None:
    target = make_target("qnnpack")
    model = ready("tangle", target)
    scales = {}
    for name, kept in (("none", ()), ("some", ("second", "head"))):
        artifact, _ = emitted(quantized(model, target, Recipe(float_layers=kept)), model, target, tmp_path / name)
        scales[name] = scales_in_file(tmp_path / name, artifact)
    assert set(scales["some"]) < set(scales["none"])


def test_names_that_are_no_layers_are_refused(ready: Lowered, make_target: MakeTarget) -> None:
    target = make_target("qnnpack")
    with pytest.raises(PassError, match='"hed" is not a layer') as caught:
        quantized(ready("vision", target), target, Recipe(float_layers=("hed",)))
    assert 'did you mean "head"?' in caught.value.hint


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
@pytest.mark.parametrize(("reduced", "limit"), [("no", 127), ("yes", 64)])
def test_weights_on_the_grid_come_out_as_their_codes(
    ready: Lowered, make_target: MakeTarget, weights: Any, reduced: Any, limit: int
) -> None:
    target = make_target("fbgemm", isa=VNNI, quantize=QuantSpec(weights=weights, reduced_range=reduced))
    grid = get_backend("fbgemm").weight_grid(target, target.emit[0])
    assert grid == WeightGrid(limit=limit, per_channel=weights == "per-channel")
    model = ready("tangle", target)
    random = np.random.default_rng(1)
    codes = {}
    for name in ("first", "second", "third", "head"):
        layer = model.lowered.graph.get_submodule(name)
        drawn = random.integers(-limit, limit + 1, tuple(layer.weight.shape))
        drawn.reshape(len(drawn), -1)[:, 0] = limit * random.choice([-1, 1], len(drawn))
        scales = random.uniform(1e-3, 1e-2, (len(drawn), *[1] * (drawn.ndim - 1)) if grid.per_channel else ())
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy((drawn * scales.astype(np.float32)).astype(np.float32)))
        codes[name] = drawn
    result = quantized(dataclasses.replace(model), target, Recipe())
    for name, wanted in codes.items():
        np.testing.assert_array_equal(result.graph.get_submodule(name).weight().int_repr().numpy(), wanted)


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_the_error_of_each_layer_is_told(ready: Lowered, make_target: MakeTarget, backend: str) -> None:
    target = make_target(backend, isa=tuple(HOST_ISA) if backend == "fbgemm" else ())
    model = ready("tangle", target)
    fully = quantized(model, target, Recipe())
    compare = get_backend(backend).compare_layers
    found = compare(model.lowered, fully, context(model, target))
    assert [(item.layer, item.op) for item in found] == list(TANGLE.items())
    assert all(25 < item.sqnr_db < 60 for item in found)
    partly = quantized(model, target, Recipe(float_layers=("first", "second")))
    of = {item.layer: item.sqnr_db for item in compare(model.lowered, partly, context(model, target))}
    # only the input's codes are between the first layer and its float twin
    assert of["first"] > found[0].sqnr_db
    with torch.no_grad():
        fully.graph.get_submodule("third").scale = fully.graph.get_submodule("third").scale * 4
    broken = {item.layer: item.sqnr_db for item in compare(model.lowered, fully, context(model, target))}
    assert broken["mul"] == next(item.sqnr_db for item in found if item.layer == "mul")
    assert broken["third"] < 15


def test_what_torch_cannot_do_is_told(make_target: MakeTarget) -> None:
    target = make_target("qnnpack")
    backend, emit = get_backend("qnnpack"), target.emit[0]
    assert not backend.reasons_against_recipe(target, emit, Recipe(calibration="entropy", float_layers=("head",)))
    (reason,) = backend.reasons_against_recipe(target, emit, Recipe(activations="int16"))
    assert "8 bits only" in reason
    dynamic = make_target("qnnpack", "int8-dynamic")
    (reason,) = backend.reasons_against_recipe(dynamic, emit, Recipe(float_layers=("head",)))
    assert "only static int8" in reason
    weight_only = target.model_copy(update={"precision": "int4-weight-only"})
    (reason,) = backend.reasons_against(weight_only, emit)
    assert "no weight-only CPU kernels" in reason


def test_shared_activations_and_lost_clamps_stay_right(ready: Lowered, make_target: MakeTarget, tmp_path: Path) -> None:
    # one ReLU6 after a concatenation, which has no scale of its own, and after a pool
    target = make_target("qnnpack")
    model = ready("clamps", target)
    for kept in ((), ("first",), ("first", "second")):
        _, runner = emitted(quantized(model, target, Recipe(float_layers=kept)), model, target, tmp_path)
        given = np.concatenate([runner(sample)["output_0"] for sample in model.samples])
        exact = model.answers()
        assert exact.max() == pytest.approx(6)
        assert 10 * np.log10((exact**2).sum() / ((exact - given) ** 2).sum()) > 30
    assert isinstance(model.lowered.graph.get_submodule("clamp"), nn.ReLU6)
