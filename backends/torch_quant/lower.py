"""From the float model to its graph in the form torch's quantizer takes."""

from __future__ import annotations

import copy

from edgec.backends.torch_quant.model import TorchModel
from edgec.errors import TraceError
from edgec.model.spec import FloatModel


def lower(model: FloatModel, engine: str, *, quantize: bool = False) -> TorchModel:
    """A private copy of the model's graph, with attention in parts if it is to be quantized.

    Raises:
        TraceError: the model has no graph. (torch quantizes nothing of an exported program, and says nothing.)
    """
    if model.graph is None:
        hint = "the onnxruntime and tflite backends may take it, with each branch as one sample goes through it"
        raise TraceError(model.untraceable, hint=hint)
    from edgec.model.samples import sample_tensors

    graph = copy.deepcopy(model.graph).eval()
    example = tuple(sample_tensors(model.inputs, seed=0))
    if quantize:
        from edgec.backends.torch_quant.open_attention import open_attention

        graph = open_attention(graph, example)
    return TorchModel(
        name=model.name,
        graph=graph,
        inputs=model.inputs,
        outputs=model.outputs,
        example=example,
        engine=engine,
    )
