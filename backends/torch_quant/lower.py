"""From the float model to its graph in the form torch's quantizer takes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from edgec.backends.torch_quant.model import TorchModel
from edgec.errors import TraceError
from edgec.model.spec import FloatModel
from edgec.passes.graph_edit import free_name

if TYPE_CHECKING:
    from torch import fx


def lower(model: FloatModel, engine: str, *, quantize: bool = False) -> TorchModel:
    """A private copy of the model's graph, with attention in parts if it is to be quantized.

    Args:
        model: the float model.
        engine: kernel library that it is for.
        quantize: whether it is to be quantized.

    Raises:
        TraceError: the model has no graph. (torch quantizes nothing of an exported program, and says nothing.)
    """
    if model.graph is None:
        hint = "the onnxruntime and tflite backends may take it, with each branch as one sample goes through it"
        raise TraceError(model.untraceable, hint=hint)
    from edgec.model.samples import sample_tensors

    graph = copy.deepcopy(model.graph).eval().requires_grad_(False)
    _read_no_layers_weights(graph)
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


def _read_no_layers_weights(graph: fx.GraphModule) -> None:
    """Give tensors of layers that the graph also reads by themselves a name of their own, in place.

    A layer that is quantized, or whose weights are stored in half precision, has none of its tensors any more.
    """
    from torch import nn

    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    names: dict[str, str] = {}
    for node in graph.graph.nodes:
        path = str(node.target)
        if node.op != "get_attr" or not any(path.startswith(f"{item}.") for item in called):
            continue
        if path not in names:
            owner, _, name = path.rpartition(".")
            tensor = getattr(graph.get_submodule(owner), name)
            names[path] = free_name(graph, path.replace(".", "_"))
            if isinstance(tensor, nn.Parameter):
                graph.register_parameter(names[path], tensor)
            else:
                graph.register_buffer(names[path], tensor)
        node.target = names[path]
    graph.recompile()
