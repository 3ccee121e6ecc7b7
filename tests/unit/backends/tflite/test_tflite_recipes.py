"""Recipes read back from the artifact: ranges, float layers, weights, 16-bit activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgec.backends.tflite.audit import CHOSEN
from edgec.backends.tflite.backend import BACKEND
from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, unpack
from edgec.backends.tflite.layout import sqnr_db
from edgec.errors import PassError
from edgec.model.spec import Array
from edgec.quant.qparams import qparams
from edgec.quant.ranges import choose_range, needs_histogram
from edgec.quant.recipe import RangeMethod, Recipe
from edgec.quant.statistics import TensorStatistics

from .conftest import FIRST_CODES, FIRST_SCALES, Compiled, Toolchain, make_case

RUNTIMES = ("ai-edge-litert", "tflite-runtime")
CHAIN = ("first", "blocks.0", "blocks.1", "head")
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def activations() -> dict[str, list[Array]]:
    """What each product of the chain gives after its ReLU, by torch."""
    case = make_case("chain")
    module: Any = case.model.module
    found: dict[str, list[Array]] = {name: [] for name in CHAIN}
    with torch.no_grad():
        for sample in case.samples:
            x = torch.from_numpy(sample["x"])
            first = torch.relu(module.first(x))
            middle = torch.nn.functional.relu6(module.blocks[0](first) * 4)
            last = torch.relu(module.blocks[1](middle))
            for name, value in zip(CHAIN, (first, middle, last, module.head(last.mean((2, 3)))), strict=True):
                found[name].append(value.numpy())
    return found


def products(made: Compiled) -> list[Any]:
    """The products of a file, with their operands, as the schema has them."""
    model = unpack(made.file.read_bytes())
    graph = model.subgraphs[0]
    return [
        (model, [graph.tensors[k] for k in indices(item.inputs)], graph.tensors[indices(item.outputs)[0]])
        for item in graph.operators
        if kind_of(model, item) in PRODUCTS
    ]


def dtypes(made: Compiled, runtime: str = "ai-edge-litert") -> list[str]:
    """In which dtype each product computes, as the runtime has it."""
    ops = BACKEND.runner(made.artifact, made.file, runtime, 1).ops()
    return [item.dtype for item in ops if item.op in PRODUCTS]


def fidelity(name: str, made: Compiled, runtime: str = "ai-edge-litert") -> float:
    case = make_case(name)
    run = BACKEND.runner(made.artifact, made.file, runtime, 1)
    return sqnr_db([item["out"] for item in case.expected], [run(sample)["out"] for sample in case.samples])


@pytest.mark.parametrize("method", ["minmax", "moving-average", "percentile", "mse"])
def test_scales_in_the_file_are_those_of_calibration(toolchain: Toolchain, method: RangeMethod) -> None:
    made = toolchain.compile("chain", "int8", Recipe(calibration=method))
    for (_, _, output), (layer, values) in zip(products(made), activations().items(), strict=True):
        statistics = TensorStatistics(needs_histogram(method))
        for value in values:
            statistics.observe(value)
        low, high = choose_range(statistics, "minmax" if layer == "head" else method)
        wanted = qparams(low, high, low_code=-128, high_code=127)
        assert float(output.quantization.scale[0]) == pytest.approx(wanted.scale, rel=1e-5)
        assert int(output.quantization.zeroPoint[0]) == wanted.zero_point


def test_methods_give_different_ranges(toolchain: Toolchain) -> None:
    made = [toolchain.compile("chain", "int8", Recipe(calibration=method)) for method in ("minmax", "percentile")]
    first, second = (products(item)[0][2].quantization.scale[0] for item in made)
    assert second < first


def test_weights_on_the_grid_keep_their_codes(toolchain: Toolchain) -> None:
    model, (_, weight, _), _ = products(toolchain.compile("chain", "int8"))[0]
    codes = np.frombuffer(bytes(model.buffers[weight.buffer].data), np.int8).reshape(indices(weight.shape))
    np.testing.assert_array_equal(codes, FIRST_CODES.transpose(0, 2, 3, 1).astype(np.int8))
    np.testing.assert_allclose(weight.quantization.scale, FIRST_SCALES, rtol=1e-6)


def test_layers_go_by_the_users_names(toolchain: Toolchain) -> None:
    found = {item.name: item.op for item in toolchain.layers("chain")}
    assert {name: found.get(name) for name in CHAIN} == {
        "first": "conv2d",
        "blocks.0": "depthwise-conv2d",
        "blocks.1": "conv2d",
        "head": "linear",
    }
    attention = [item.name for item in toolchain.layers("attention")]
    assert {"project", "out"} <= set(attention)
    assert len(attention) == len(set(attention))


@pytest.mark.parametrize("kept", [("blocks.1",), ("head",), ("first", "head"), ("first", "blocks.0", "head")])
def test_just_these_layers_stay_float(toolchain: Toolchain, kept: tuple[str, ...]) -> None:
    made = toolchain.compile("chain", "int8", Recipe(float_layers=kept))
    wanted = ["float32" if name in kept else "int8" for name in CHAIN]
    for runtime in RUNTIMES:
        assert dtypes(made, runtime) == wanted
    for (_, (_, weight, *_), _), dtype in zip(products(made), wanted, strict=True):
        assert (weight.quantization is not None and weight.quantization.scale is not None) == (dtype == "int8")
    told = {item.subject: item.reason for item in made.artifact.coverage if item.state == "float32"}
    assert {name for name, reason in told.items() if reason == CHOSEN} == set(kept)
    ops = BACKEND.runner(made.artifact, made.file, RUNTIMES[0], 1).ops()
    assert {item.reason for item in ops if item.op in PRODUCTS and item.dtype == "float32"} == {CHOSEN}
    assert fidelity("chain", made) > 25


def test_unknown_layer_is_refused_with_a_suggestion(toolchain: Toolchain) -> None:
    with pytest.raises(PassError, match=r'no layer is called "blocks\.2"') as caught:
        toolchain.compile("chain", "int8", Recipe(float_layers=("blocks.2",)))
    assert "did you mean" in caught.value.hint


def test_batched_products_and_norms_can_stay_float(toolchain: Toolchain) -> None:
    found = {item.op: item.name for item in toolchain.layers("attention")}
    kept = tuple(sorted((found["matmul"], found["layer-norm"])))
    made = toolchain.compile("attention", "int8", Recipe(float_layers=kept))
    assert {item.subject for item in made.artifact.coverage if item.reason == CHOSEN} == set(kept)
    assert fidelity("attention", made) >= fidelity("attention", toolchain.compile("attention", "int8"))


@pytest.mark.parametrize("kept", [(), ("first",)])
def test_layers_are_compared(toolchain: Toolchain, kept: tuple[str, ...]) -> None:
    found = {item.layer: item.sqnr_db for item in toolchain.compare_layers("chain", "int8", Recipe(float_layers=kept))}
    assert set(CHAIN) <= set(found)
    assert all(20 < value < 60 for name, value in found.items() if name not in kept)
    # alone in float, its error is that of the input, which is float too
    assert all(found[name] > 100 for name in kept)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_16_bit_activations_are_nearly_exact(toolchain: Toolchain, runtime: str) -> None:
    made = toolchain.compile("chain", "int8", Recipe(activations="int16", calibration="mse"))
    assert dtypes(made, runtime) == ["int16"] * 4
    assert fidelity("chain", made, runtime) > fidelity("chain", toolchain.compile("chain", "int8"), runtime) + 3
    assert [item.subject for item in made.artifact.coverage] == ["activation ranges"]


def test_file_that_kills_an_interpreter_is_refused_and_the_worker_lives(toolchain: Toolchain) -> None:
    with pytest.raises(PassError, match=r"ai-edge-litert (crashes on|refuses) the file"):
        toolchain.compile("attention", "int8", Recipe(activations="int16"))
    assert toolchain.layers("attention")


def test_values_beyond_any_scale_stay_float(toolchain: Toolchain) -> None:
    made = toolchain.compile("masked", "int8")
    told, *_ = (item for item in made.artifact.coverage if "no 8-bit scale" in item.reason)
    assert told.state == "float32"
    assert "int8" in dtypes(made)
    assert fidelity("masked", made) > 25


@pytest.mark.parametrize("model", ["mildly masked", "masked product"])
def test_masks_that_8_bits_hold_at_the_scores_expense_stay_float(toolchain: Toolchain, model: str) -> None:
    made = toolchain.compile(model, "int8")
    told = [item for item in made.artifact.coverage if "softmax's argument" in item.reason]
    assert {item.state for item in told} == {"float32"}
    found = {item.op: item.dtype for item in BACKEND.runner(made.artifact, made.file, RUNTIMES[0], 1).ops()}
    assert found["SOFTMAX"] == found.get("ADD", "float32") == "float32"
    assert "int8" in dtypes(made)
    assert fidelity(model, made) > 25  # steps of 40 between the scores made them all alike


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_boxes_and_probabilities_that_are_an_output_stay_float(toolchain: Toolchain, runtime: str) -> None:
    made = toolchain.compile("detector", "int8")
    told = {item.subject for item in made.artifact.coverage if "makes an output" in item.reason}
    assert any("LOGISTIC" in item for item in told)
    assert any("CONCATENATION" in item for item in told)
    case = make_case("detector")
    run = BACKEND.runner(made.artifact, made.file, runtime, 1)
    found = [run(sample)["out"][:, 4:] for sample in case.samples]
    assert sqnr_db([item["out"][:, 4:] for item in case.expected], found) > 25  # of scores of 0.002, in steps of 1/256


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_head_keeps_its_own_scale_where_they_are_joined_in_float(toolchain: Toolchain, runtime: str) -> None:
    made = toolchain.compile("joined heads", "int8")
    case = make_case("joined heads")
    run = BACKEND.runner(made.artifact, made.file, runtime, 1)
    outputs = [run(sample)["out"] for sample in case.samples]
    for channels in (slice(0, 4), slice(4, 7)):
        expected = [item["out"][:, channels] for item in case.expected]
        assert sqnr_db(expected, [item[:, channels] for item in outputs]) > 25
    ops = [item.op for item in run.ops()]
    assert ops.count("CONCATENATION") == 2
    assert "CUSTOM" not in ops


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_8_bit_weights_with_float_arithmetic(toolchain: Toolchain, runtime: str) -> None:
    made = toolchain.compile("chain", "int8-weight-only")
    ops = BACKEND.runner(made.artifact, made.file, runtime, 1).ops()
    assert {item.dtype for item in ops if item.op in PRODUCTS} == {"float32"}
    assert all("8-bit weights" in item.reason for item in ops if item.op in PRODUCTS)
    assert sum(item.op == "DEQUANTIZE" for item in ops) == len(CHAIN)
    assert fidelity("chain", made, runtime) > 38
    model = unpack(made.file.read_bytes())
    dims = {len(item.shape) for item in model.subgraphs[0].tensors if _is_float_constant(model, item)}
    assert dims <= {1}, "of the float weights only biases are left in the file"


def _is_float_constant(model: Any, tensor: Any) -> bool:
    return is_constant(model, tensor) and tensor.type == 0


def test_4_bit_weights_in_blocks(toolchain: Toolchain) -> None:
    made = toolchain.compile("attention", "int4-weight-only")
    stored = [item for item in unpack(made.file.read_bytes()).subgraphs[0].tensors if b"/codes" in item.name]
    assert all(len(item.quantization.scale) >= item.shape[0] for item in stored)
    assert fidelity("attention", made) > 12
    chain = toolchain.compile("chain", "int4-weight-only", Recipe(float_layers=("head",)))
    assert {item.subject: item.state for item in chain.artifact.coverage}["head"] == "float32"
    assert fidelity("chain", chain) > 12
    layers = toolchain.compare_layers("chain", "int4-weight-only", Recipe())
    assert set(CHAIN) <= {item.layer for item in layers}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kept", [(), ("mul",)])
def test_corners_of_the_quantizer_are_right(toolchain: Toolchain, kept: tuple[str, ...], runtime: str) -> None:
    made = toolchain.compile("corners", "int8", Recipe(float_layers=kept))
    assert fidelity("corners", made, runtime) > 28
    case = make_case("corners")
    run = BACKEND.runner(made.artifact, made.file, runtime, 1)
    assert all(not run(sample)["dead"].any() for sample in case.samples)
