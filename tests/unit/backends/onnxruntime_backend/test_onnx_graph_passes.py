"""Graph rewrites and bookkeeping, on hand-made ONNX graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgec.backends.onnxruntime.calibrate import observe, ranges, unusable
from edgec.backends.onnxruntime.exclude import CLIP_REASON, RANGE_REASON, SOFTMAX_REASON, nodes_to_exclude
from edgec.backends.onnxruntime.fuse_padding import FuseAsymmetricPadding
from edgec.backends.onnxruntime.globalize_pool import GlobalizeAveragePool
from edgec.backends.onnxruntime.graph import OnnxModel, canonical_bytes, check_names, fingerprint
from edgec.backends.onnxruntime.untie import separate_lstm_weights, transpose_gemm_weights, untie_weights
from edgec.errors import DatasetError, PassError
from edgec.model.spec import Array, Tensors
from edgec.passes.contract import PassContext
from edgec.quant.statistics import TensorStatistics

from .onnx_graphs import floats, onnx_model

NO_CONTEXT: PassContext = None  # type: ignore[assignment]  # these passes read nothing of it


def run(model: OnnxModel, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def padded_conv(widths: list[int], value: float = 0.0, **conv: Any) -> OnnxModel:
    constants = {"p": np.array(widths), "v": np.float32(value).reshape(()), "w": floats(4, 2, 3, 3)}
    nodes = [
        helper.make_node("Pad", ["x", "p", "v"], ["padded"]),
        helper.make_node("Conv", ["padded", "w"], ["y"], strides=[2, 2], **conv),
    ]
    return onnx_model(nodes, constants, (1, 2, 8, 8), (1, 4, 4, 4))


@pytest.mark.parametrize("conv", [{}, {"auto_pad": "VALID"}])
def test_asymmetric_padding_folds_exactly(conv: dict[str, Any]) -> None:
    model, step, x = padded_conv([0, 0, 0, 0, 0, 0, 1, 1], **conv), FuseAsymmetricPadding(), floats(1, 2, 8, 8)
    assert step.requires(model, NO_CONTEXT) is None
    fused = step.run(model, NO_CONTEXT).model
    assert [node.op_type for node in fused.proto.graph.node] == ["Conv"]
    assert step.ensures(fused, NO_CONTEXT) is None
    np.testing.assert_allclose(run(fused, x), run(model, x), rtol=1e-5, atol=1e-5)


def test_padding_adds_to_the_pads_there_are() -> None:
    model, x = padded_conv([0, 0, 1, 0, 0, 0, 0, 1], pads=[0, 1, 1, 0]), floats(1, 2, 8, 8)
    fused = FuseAsymmetricPadding().run(model, NO_CONTEXT).model
    pads = next(list(item.ints) for item in fused.proto.graph.node[0].attribute if item.name == "pads")
    assert pads == [1, 1, 1, 1]
    np.testing.assert_allclose(run(fused, x), run(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [padded_conv([0, 0, 0, 0, 0, 0, 1, 1], value=1.0), padded_conv([0, 0, 1, 1, 0, 0, 1, 1], auto_pad="SAME_UPPER")],
    ids=["not zero", "auto_pad"],
)
def test_other_padding_stays(model: OnnxModel) -> None:
    same = FuseAsymmetricPadding().run(model, NO_CONTEXT).model
    assert fingerprint(same) == fingerprint(model)


def pooled(shape: tuple[int, int], **attributes: Any) -> OnnxModel:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[4, 4], **attributes)
    return onnx_model([node], {}, (1, 2, *shape), (1, 2, *(1 if size == 4 else 2 for size in shape)))


def test_only_whole_plane_pools_become_global() -> None:
    step, x = GlobalizeAveragePool(), floats(1, 2, 4, 4)
    model = pooled((4, 4), strides=[4, 4])
    result = step.run(model, NO_CONTEXT).model
    assert result.proto.graph.node[0].op_type == "GlobalAveragePool"
    np.testing.assert_allclose(run(result, x), run(model, x), rtol=1e-6)
    partial = pooled((8, 8), strides=[4, 4])
    assert step.run(partial, NO_CONTEXT).model.proto.graph.node[0].op_type == "AveragePool"


def gemms() -> OnnxModel:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Gemm", ["a", "w"], ["b"], transB=1),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    return onnx_model(nodes, {"w": floats(4, 4)}, (1, 4), (1, 4))


def test_shared_weights_are_untied_and_transposed_once() -> None:
    model, x = gemms(), floats(1, 4)
    expected = run(model, x)
    untie_weights(model.proto)
    assert model.proto.graph.node[0].input[1] == model.proto.graph.node[1].input[1]
    assert model.proto.graph.node[2].input[1] != model.proto.graph.node[0].input[1]
    transpose_gemm_weights(model.proto)
    assert len(model.proto.graph.initializer) == 2
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5)


def test_each_lstm_gets_its_own_weights() -> None:
    def lstm(source: str, out: str) -> onnx.NodeProto:
        return helper.make_node("LSTM", [source, "w", "r"], ["", out], hidden_size=4)

    def back(source: str, out: str) -> onnx.NodeProto:
        return helper.make_node("Identity", [source], [out])

    nodes = [lstm("x", "h"), lstm("h", "h2"), back("h2", "y")]
    model = onnx_model(nodes, {"w": floats(1, 16, 4), "r": floats(1, 16, 4)}, (1, 1, 4), (1, 1, 4))
    x = floats(1, 1, 4)
    expected = run(model, x)
    separate_lstm_weights(model.proto)
    first, second = model.proto.graph.node[:2]
    assert not set(first.input[1:3]) & set(second.input[1:3])
    np.testing.assert_array_equal(run(model, x), expected)


@pytest.mark.parametrize("histogram", [False, True])
def test_ranges_cover_all_samples_and_nan_is_refused(histogram: bool, tmp_path: Path) -> None:
    nodes = [helper.make_node("Sqrt", ["x"], ["root"]), helper.make_node("Add", ["root", "root"], ["y"])]
    model = onnx_model(nodes, {}, (1, 2), (1, 2))

    def observed(samples: list[dict[str, Array]]) -> OnnxModel:
        return replace(model, statistics=observe(model, samples, histogram=histogram, threads=1, work=tmp_path))

    samples = [{"x": np.array([[1, 4]], np.float32)}, {"x": np.array([[9, 0]], np.float32)}]
    calibrated = observed(samples)
    assert ranges(calibrated, "minmax") == {"root": (0.0, 3.0), "y": (0.0, 6.0)}  # nothing quantizes x
    assert unusable(calibrated) == frozenset()
    assert fingerprint(calibrated) != fingerprint(model)
    assert fingerprint(calibrated) == fingerprint(observed(samples))
    samples.append({"x": np.array([[np.inf, 1]], np.float32)})
    assert unusable(observed(samples)) == {"root", "y"}
    samples[-1] = {"x": np.array([[1, -1]], np.float32)}
    with pytest.raises(DatasetError, match="NaN"):
        observed(samples)
    with pytest.raises(DatasetError, match="empty"):
        observed([])


def test_masks_and_unclamping_clips_stay_float() -> None:
    constants = {
        "w": floats(4, 4),
        "mask": np.array([[0, -1e9, 0, 0]], np.float32),
        "low": np.float32(0.1).reshape(()),
        "high": np.float32(1).reshape(()),
        "huge": np.array([[-np.inf, 0, 0, 0]], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Add", ["a", "mask"], ["b"], name="masked"),
        helper.make_node("Softmax", ["b"], ["c"]),
        helper.make_node("Clip", ["c", "low", "high"], ["d"], name="clip"),
        helper.make_node("Add", ["d", "huge"], ["y"], name="infinite"),
    ]
    found = nodes_to_exclude(onnx_model(nodes, constants, (1, 4), (1, 4)).proto, ())
    assert found == {"masked": SOFTMAX_REASON, "clip": CLIP_REASON, "infinite": RANGE_REASON}


def test_names_are_unique_and_unknown_ones_refused() -> None:
    proto = gemms().proto
    assert len({node.name for node in proto.graph.node}) == 3
    check_names(proto, [proto.graph.node[0].name], "pass p")
    with pytest.raises(PassError, match="nope"):
        check_names(proto, ["nope"], "pass p")


def test_bytes_ignore_who_made_the_graph_and_where() -> None:
    model, other = gemms(), replace(gemms(), name="model (copy)")
    other.proto.producer_name = "somebody"
    other.proto.doc_string = "/home/somebody/model.py"
    other.proto.metadata_props.add(key="path", value="/tmp/x")
    other.proto.graph.node[0].doc_string = "line 3"
    assert canonical_bytes(model, shapes=True) == canonical_bytes(other, shapes=True)
    other.proto.graph.initializer[0].raw_data = bytes(64)
    assert fingerprint(model) != fingerprint(other)


class Fresh(Sequence[Tensors]):
    """Samples that nobody else holds, as those of a spool are."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Tensors:  # type: ignore[override]  # no slices
        return {"x": np.random.default_rng(index).uniform(-1, 1, (1, 2, 20, 20)).astype(np.float32)}


def test_values_of_the_input_are_read_while_it_is_there(tmp_path: Path) -> None:
    """ONNX Runtime gives an input that is an output too without a copy."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="c")]
    model = onnx_model(nodes, {"w": floats(2, 2, 1, 1)}, (1, 2, 20, 20), (1, 2, 20, 20))
    statistics = observe(model, Fresh(), histogram=True, threads=1, work=tmp_path)["x"]
    assert statistics is not None
    assert statistics.histograms is not None
    values = np.concatenate([sample["x"].reshape(-1) for sample in map(Fresh().__getitem__, range(64))])
    assert (statistics.low, statistics.high) == (values.min(), values.max())
    expected = TensorStatistics(True)
    expected.observe(values)
    assert expected.histograms is not None
    np.testing.assert_array_equal(statistics.histograms.counts, expected.histograms.counts)
