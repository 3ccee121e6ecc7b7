"""SQNR of each layer of a quantized program, against the float program that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from edgec.backends.interface import LayerFidelity
from edgec.backends.tflite.flatbuffer import indices, text, unpack
from edgec.backends.tflite.layers import PlacedLayer
from edgec.backends.tflite.layout import to_artifact
from edgec.backends.tflite.model import LiteModel
from edgec.backends.tflite.static_int8 import output_tensors
from edgec.errors import DatasetError
from edgec.model.spec import Array, Tensors
from edgec.passes.contract import PassContext
from edgec.quant.fidelity import SqnrMeter

MAX_SAMPLES = 16


def compare_layers(model: LiteModel, quantized: LiteModel, ctx: PassContext) -> Sequence[LayerFidelity]:
    """SQNR of what the last op of each layer makes, over a few samples.

    Both programs run in LiteRT without XNNPACK, whose fused kernels hide what lies between; with int8 its results
    differ from these by a step at most.

    Raises:
        DatasetError: there are no samples.
    """
    if not ctx.calibration:
        raise DatasetError("layers are compared on calibration samples, and there are none", where="tflite")
    if model.quantizable is None:
        return ()
    ends = output_tensors(model.quantizable)
    before = _Program(model.quantizable.content, {}, ctx.threads)
    after = _Program(quantized.content, ends, ctx.threads)
    names = _last_tensors(model.quantizable.content, model.quantizable.layers)
    pairs = [
        (layer, before.tensors[names[layer.name]], after.tensors[names[layer.name]])
        for layer in model.quantizable.layers
        if names[layer.name] in before.tensors and names[layer.name] in after.tensors
    ]
    meters = {layer.name: SqnrMeter() for layer, _, _ in pairs}
    for sample in islice(iter(ctx.calibration), MAX_SAMPLES):
        before.run(model, sample)
        after.run(quantized, sample)
        for layer, reference, value in pairs:
            meters[layer.name].add(before.read(reference), after.read(value))
    return [LayerFidelity(layer=layer.name, op=layer.op, sqnr_db=meters[layer.name].sqnr_db) for layer, _, _ in pairs]


class _Program:
    """A flatbuffer whose tensors can all be read; `tensors`: name in the quantizable program -> number."""

    def __init__(self, content: bytes, ends: Mapping[str, str], threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter: Any = Interpreter(
            model_content=content,
            num_threads=threads,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        graph = unpack(content).subgraphs[0]
        made = [index for operator in graph.operators for index in indices(operator.outputs)]
        self.tensors = {ends.get(name, name): index for index in made if (name := text(graph.tensors[index].name))}
        (signature,) = unpack(content).signatureDefs
        self._fed = {text(item.name): int(item.tensorIndex) for item in signature.inputs}
        self._details = {item["index"]: item for item in self._interpreter.get_tensor_details()}

    def run(self, model: LiteModel, sample: Tensors) -> None:
        for item in model.inputs:
            place = self._fed[item.artifact_name]
            array = np.asarray(sample[item.name], self._details[place]["dtype"])
            self._interpreter.set_tensor(place, to_artifact(array, item.permutation))
        self._interpreter.invoke()

    def read(self, index: int) -> Array:
        """A tensor's values, dequantized."""
        values: Array = self._interpreter.get_tensor(index)
        scale, zero_point = self._details[index]["quantization"]
        if values.dtype.kind == "i" and scale:
            return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
        return values


def _last_tensors(content: bytes, layers: Sequence[PlacedLayer]) -> dict[str, str]:
    """Layer -> name of the tensor that its last op makes."""
    graph = unpack(content).subgraphs[0]
    return {
        layer.name: text(graph.tensors[indices(graph.operators[layer.places[-1]].outputs)[0]].name) for layer in layers
    }
