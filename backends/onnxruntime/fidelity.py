"""SQNR of each layer of a quantized graph, against the float graph that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.backends.interface import LayerFidelity
from edgec.backends.onnxruntime.capability import saturates
from edgec.backends.onnxruntime.graph import OnnxModel, consumers, copy, input_names, producers
from edgec.backends.onnxruntime.layers import PlacedLayer, find_layers
from edgec.backends.onnxruntime.session import open_session, run
from edgec.errors import DatasetError
from edgec.passes.contract import PassContext
from edgec.storage.temporary import private_folder

if TYPE_CHECKING:
    import onnx

MAX_SAMPLES = 16


def compare_layers(model: OnnxModel, quantized: OnnxModel, ctx: PassContext) -> Sequence[LayerFidelity]:
    """SQNR of each layer's output (after its ReLU, which quantization merges into it) over a few samples.

    Both graphs run as artifacts do, with integer kernels in the quantized one.

    Args:
        model: the float graph.
        quantized: what the passes made of it.
        ctx: holds the calibration samples.

    Raises:
        DatasetError: there are no samples.
    """
    from edgec.quant.fidelity import SqnrMeter

    if not ctx.calibration:
        raise DatasetError("layers are compared on calibration samples, and there are none", where=model.name)
    pairs = _pairs(model.proto, quantized.proto)
    if not pairs:
        return ()
    names = list(dict.fromkeys(before for _, before, _ in pairs)), list(dict.fromkeys(after for _, _, after in pairs))
    fed = input_names(model)
    with private_folder(ctx.work, "compare-") as folder:
        sessions = [
            _session(item, wanted, Path(folder, f"{index}.onnx"), ctx)
            for index, (item, wanted) in enumerate(zip((model, quantized), names, strict=True))
        ]
    meters = {layer.name: SqnrMeter() for layer, _, _ in pairs}
    for sample in islice(iter(ctx.calibration), MAX_SAMPLES):
        feeds = {fed[name]: value for name, value in sample.items() if name in fed}
        reference, approximate = (
            dict(zip(wanted, run(session, wanted, feeds, model.name), strict=True))
            for session, wanted in zip(sessions, names, strict=True)
        )
        for layer, before, after in pairs:
            meters[layer.name].add(reference[before], approximate[after])
    return [LayerFidelity(layer=layer.name, op=layer.op, sqnr_db=meters[layer.name].sqnr_db) for layer, _, _ in pairs]


def _pairs(before: onnx.ModelProto, after: onnx.ModelProto) -> list[tuple[PlacedLayer, str, str]]:
    """Layer, its output in the float graph, and the same in the quantized graph: dequantized, if the layer is int8."""
    from onnx import TensorProto

    nodes, readers = {node.name: node for node in before.graph.node}, consumers(before)
    outputs = {item.name for item in before.graph.output}
    made_by, read_by = producers(after), consumers(after)
    floats = {
        item.name
        for item in (*before.graph.value_info, *before.graph.output)
        if item.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    floats_after = {layer.node for layer in find_layers(after)}
    pairs = []
    for layer in find_layers(before):
        tensor = nodes[layer.node].output[0]
        users = readers.get(tensor, [])
        if tensor not in outputs and len(users) == 1 and users[0].op_type in ("Relu", "Clip"):
            tensor = users[0].output[0]
        if tensor not in floats or tensor not in made_by:
            continue
        if layer.node in floats_after:
            pairs.append((layer, tensor, tensor))
            continue
        rounded = next((node for node in read_by.get(tensor, ()) if node.op_type == "QuantizeLinear"), None)
        restored = [] if rounded is None else read_by.get(rounded.output[0], [])
        dequantized = next((node.output[0] for node in restored if node.op_type == "DequantizeLinear"), tensor)
        pairs.append((layer, tensor, dequantized))
    return pairs


def _session(model: OnnxModel, outputs: Sequence[str], file: Path, ctx: PassContext) -> Any:
    import onnx
    from onnx import TensorProto, helper

    proto = copy(model)
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    onnx.save(proto, str(file))
    return open_session(file, threads=ctx.threads, widens=not saturates(ctx.target.device))
