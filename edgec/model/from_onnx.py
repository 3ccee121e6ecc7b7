"""A torch graph of an ONNX model, so that the torch passes and backends serve it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from edgec.model.onnx_torch.build import build_graph
from edgec.model.onnx_torch.call import NoTorchFormError
from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.model.spec import Array
from edgec.model.trace import Traced


def torch_graph(proto: Any, samples: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> Traced:
    """Convert a ModelProto to an FX graph of plain ``torch.nn`` modules, for the shapes of the samples.

    Args:
        proto: with all tensor data inside.
        samples: pairs of inputs and the outputs that the original gives for them.

    Returns:
        The graph, checked against every sample, or the reason why it has none.
    """
    tensors = [[torch.from_numpy(array.copy()) for array in inputs] for inputs, _ in samples]
    try:
        graph = build_graph(proto, tensors[0])
    except NoTorchFormError as exc:
        return Traced(None, f"the model is known as ONNX only: {exc}")
    for inputs, (_, outputs) in zip(tensors, samples, strict=True):
        if not _agrees(graph, inputs, [torch.from_numpy(array.copy()) for array in outputs]):
            return Traced(None, "the model is known as ONNX only: its conversion to torch computes something else")
    return Traced(graph)


def _agrees(graph: fx.GraphModule, inputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether a graph gives what is expected, but for what rounding makes of it in this graph."""
    with torch.no_grad():
        ours = tensors_of(graph(*inputs))
        if close(ours, expected, tolerance=1e-3, smallest=1e-6):
            return True
        moved = tensors_of(_Rounding(graph).run(*inputs))
    return len(ours) == len(expected) and all(map(_differs_by_rounding, ours, moved, expected))


def _differs_by_rounding(value: torch.Tensor, moved: torch.Tensor, expected: torch.Tensor) -> bool:
    if not value.is_floating_point():
        return torch.equal(value, expected)
    return close([value], [expected], tolerance=1e-3, smallest=4 * float((value - moved).nan_to_num().abs().max()))


class _Rounding(fx.Interpreter):
    """Runs a graph with each result moved by as much as the order of a long sum moves it.

    Some models amplify that, as a variance does of values that are nearly equal: two right ways to compute them differ
    by far more than float32's precision.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self._random = torch.Generator().manual_seed(0)

    def run_node(self, node: fx.Node) -> Any:
        """The node's result, moved."""
        return fx.node.map_aggregate(super().run_node(node), self._move)

    def _move(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        return value * (1 + 2.0**-18 * torch.randn(value.shape, generator=self._random, dtype=value.dtype))
