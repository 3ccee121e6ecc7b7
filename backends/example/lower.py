"""From the float model's graph to a chain of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgec.backends.example.model import ExampleModel, Layer
from edgec.errors import TraceError, UnsupportedError
from edgec.model.samples import sample_tensors
from edgec.model.spec import Array, FloatModel
from edgec.passes.graph_edit import input_shapes

if TYPE_CHECKING:
    from torch import fx, nn

HINT = "this backend takes chains of Conv2d, Linear, ReLU, Flatten, MaxPool2d and AdaptiveAvgPool2d(1)"

IMAGE_OPS = ("conv2d", "max-pool2d", "global-average-pool2d")
"""torch also takes these without a batch axis; the kernels here do not."""

Lowered = tuple[Layer, dict[str, Array]]


def lower(model: FloatModel) -> ExampleModel:
    """The chain of `model`.

    Raises:
        TraceError: the model has no graph.
        UnsupportedError: it is not a chain, or a layer is of another kind; the layer is named.
    """
    if model.graph is None:
        hint = "the onnxruntime and tflite backends may take it, with each branch as one sample goes through it"
        raise TraceError(model.untraceable, hint=hint)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.inputs[0].dtype != "float32":
        raise UnsupportedError("the model has not one float32 input and one output", where=model.name, hint=HINT)
    layers: list[Layer] = []
    arrays: dict[str, Array] = {}
    shapes = input_shapes(model.graph, sample_tensors(model.inputs, seed=0))
    for name, module, fed in _chain(model.graph):
        layer, own = _layer(name, module)
        if layer.op in IMAGE_OPS and len(shapes[fed]) != 4:
            what = f"{type(module).__name__} on shape {list(shapes[fed])} is not supported"
            raise UnsupportedError(what, where=name, hint="images are (batch, channels, height, width) here")
        if layer.op == "relu" and layers and layers[-1].op in ("conv2d", "linear"):
            layers[-1] = layers[-1].model_copy(update={"relu": True})
            continue
        arrays |= {f"{len(layers)}.{key}": value for key, value in own.items()}
        layers.append(layer)
    return ExampleModel(model.name, model.inputs[0], model.outputs[0], tuple(layers), arrays)


def _chain(graph: fx.GraphModule) -> Iterator[tuple[str, nn.Module, fx.Node]]:
    """Names, modules and input nodes in the order of the calls, each on what the one before returns."""
    import torch

    before: Any = None
    for node in graph.graph.nodes:
        if node.op == "output":
            if node.args[0] is not before:
                raise UnsupportedError("the model does not return what its last layer computes", hint=HINT)
        elif node.op == "placeholder":
            before = node
        elif node.op == "call_module" and node.args == (before,) and not node.kwargs:
            yield str(node.target), graph.get_submodule(str(node.target)), before
            before = node
        elif node.target in (torch.flatten, "flatten") and node.args[:1] == (before,):
            dims: Any = {"start_dim": 0} | dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False))
            yield node.name, torch.nn.Flatten(**dims | node.kwargs), before
            before = node
        else:
            called = getattr(node.target, "__name__", node.target)
            raise UnsupportedError(f"{called} is not a layer in a chain", where=node.name, hint=HINT)


def _layer(name: str, module: nn.Module) -> Lowered:
    from torch import nn

    kind = type(module).__name__
    known = getattr(nn, kind, None) is type(module)  # a subclass may compute something else
    lowered = _LAYERS[kind](name, module) if known and kind in _LAYERS else None
    if lowered is None:
        raise UnsupportedError(f"{module} is not supported", where=name, hint=HINT)
    return lowered


def _parameters(module: Any) -> dict[str, Array]:
    """Weight and bias; the bias is zeros where the layer has none."""
    import torch

    bias = torch.zeros(len(module.weight)) if module.bias is None else module.bias
    return {"weight": module.weight.detach().numpy().copy(), "bias": bias.detach().numpy().copy()}


def _conv2d(name: str, module: Any) -> Lowered | None:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    layer = Layer(
        op="conv2d",
        name=name,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
    )
    return layer, _parameters(module)


def _max_pool(name: str, module: Any) -> Lowered | None:
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        return None
    kernel, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
    return Layer(op="max-pool2d", name=name, kernel=kernel, stride=stride, padding=padding), {}


def _global_average_pool(name: str, module: Any) -> Lowered | None:
    return (Layer(op="global-average-pool2d", name=name), {}) if _pair(module.output_size) == (1, 1) else None


def _flatten(name: str, module: Any) -> Lowered | None:
    return (Layer(op="flatten", name=name), {}) if (module.start_dim, module.end_dim) == (1, -1) else None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


_LAYERS: dict[str, Callable[[str, Any], Lowered | None]] = {
    "Conv2d": _conv2d,
    "Linear": lambda name, module: (Layer(op="linear", name=name), _parameters(module)),
    "ReLU": lambda name, module: (Layer(op="relu", name=name), {}),
    "Flatten": _flatten,
    "MaxPool2d": _max_pool,
    "AdaptiveAvgPool2d": _global_average_pool,
}
"""torch.nn class -> its layer, or None when its options are not supported."""
