"""What flows through the torch backends: a graph, float at first and quantized later."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgec.backends.torch_quant.engines import running
from edgec.frozen import canonical_json
from edgec.model.spec import TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import fx

    from edgec.quant.statistics import TensorStatistics


@dataclass(frozen=True)
class TorchModel:
    """A graph with how to call it; passes never change one in place.

    Attributes:
        example: one made-up sample in call order, for tracing.
        engine: kernel library that the graph must run with.
        half: whether the file stores the weights as float16.
        statistics: of the float graph's tensors over the calibration samples, by the name of the node that makes them.
        reference: outputs of the float graph for some calibration samples, by the sample's index.
        float_layers: of a quantized graph, the layers (`layers.layers`) that compute in float.
        kept: those of them, and other calls by their scope in the artifact, that edgec keeps in float, and why.
        left_out: of a float graph, the nodes that torch's quantizer must not touch, and why.
        calls: of a quantized graph, the node that computes each layer.
    """

    name: str
    graph: fx.GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: tuple[torch.Tensor, ...]
    engine: str
    half: bool = False
    statistics: Mapping[str, TensorStatistics] | None = None
    reference: Mapping[int, tuple[torch.Tensor, ...]] | None = None
    float_layers: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, str] | None = None


def copy_of(graph: fx.GraphModule) -> fx.GraphModule:
    """A graph of its own whose weights and buffers are those of `graph`, which are not changed in place.

    torch keeps some graphs for good that it has observed and converted: many copies with weights of their own, as the
    accuracy ladder makes them, would fill the memory.
    """
    shared = {id(tensor): tensor for tensor in (*graph.parameters(), *graph.buffers())}
    copied: fx.GraphModule = copy.deepcopy(graph, shared)
    return copied


def fingerprint(model: TorchModel) -> str:
    """SHA-256 (hex) over code, module options and constants; packed weights of quantized modules count too."""
    digest = hashlib.sha256()
    specs = [item.model_dump(mode="json") for item in (*model.inputs, *model.outputs)]
    digest.update(
        canonical_json(
            [specs, model.engine, model.half, model.float_layers, dict(model.kept), dict(model.left_out)]
        ).encode()
    )
    digest.update(model.graph.code.encode())
    with running(model.engine, 1) if model.engine else contextlib.nullcontext():
        # another engine takes a dimension away from the packed weights of a Conv1d, in place
        modules = [(name, module, module.extra_repr()) for name, module in model.graph.named_modules()]
        state = sorted(model.graph.state_dict().items())
    for name, module, words in modules:
        if module is not model.graph:
            digest.update(f"{name} {type(module).__qualname__} {words}\n".encode())
    for name, value in state:
        digest.update(f"{name}\n".encode())
        _update(value, digest.update)
    for name, statistics in (model.statistics or {}).items():
        digest.update(f"{name} {statistics.samples}\n".encode())
        arrays = [statistics.lows, statistics.highs, statistics.average_lows, statistics.average_highs]
        if statistics.histograms is not None:
            arrays += [statistics.histograms.counts, statistics.histograms.zeros, statistics.histograms.exponents]
        for array in arrays:
            digest.update(array.tobytes())
    return digest.hexdigest()


def _update(value: Any, update: Callable[[bytes], None]) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        if value.is_quantized:
            if value.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric):
                _update((value.q_per_channel_scales(), value.q_per_channel_zero_points()), update)
            else:
                update(f"{value.q_scale()!r} {value.q_zero_point()}".encode())
            value = value.int_repr()
        flat = value.detach().contiguous().reshape(-1)
        update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, (tuple, list)):
        for item in value:
            _update(item, update)
    elif isinstance(value, torch.ScriptObject):
        _update(value.__getstate__(), update)
    else:
        update(repr(value).encode())
