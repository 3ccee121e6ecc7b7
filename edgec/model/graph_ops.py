"""The ops of a float model as data: what backends are asked about before anything is lowered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Ops whose attributes are graphs."""
UNSIZED = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Ops whose number of results depends on the data."""
STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class GraphOp:
    """One op of a float model.

    Attributes:
        name: the node's name: module path in a torch graph, node name in an ONNX file.
        op: ONNX's op type (``Conv``, ``Gemm``, ``LSTM``); what ONNX has no op of goes by its torch name.
        domain: of an ONNX op; empty for ONNX's own.
        inputs: names of the tensors it reads, without its weights.
        outputs: names of the tensors it makes.
        is_float: whether it makes a float tensor.
        axes: spatial axes of a convolution or a resize; 0 where there are none, or they are not known.
        mode: of a resize: ``nearest``, ``linear``, ``cubic``.
        inner: whether it is within a branch or a loop.
    """

    name: str
    op: str
    domain: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_float: bool = True
    axes: int = 0
    mode: str = ""
    inner: bool = False

    @property
    def is_standard(self) -> bool:
        """Whether it is of ONNX's own domain, or of a torch graph."""
        return self.domain in STANDARD_DOMAINS


@dataclass(frozen=True)
class OpGraph:
    """All ops of a model in execution order, and what they take.

    Attributes:
        ops: those of inner graphs follow the op that holds them.
        weight_elements: number of float constants.
        tensor_bytes: size of each tensor that is made, in float32 where it is a float; unknown ones are left out.
    """

    ops: tuple[GraphOp, ...]
    weight_elements: int
    tensor_bytes: Mapping[str, int] = field(default_factory=dict)

    def peak_bytes(self, given: Sequence[str] = ()) -> int:
        """Most bytes of activations that are held at once when each op runs as soon as it stands, and frees at once.

        Args:
            given: names of the inputs, which are held until their last reader has run.
        """
        outer = [op for op in self.ops if not op.inner]
        last = {name: at for at, op in enumerate(outer) for name in op.inputs}
        live = {name: self.tensor_bytes.get(name, 0) for name in given}
        peak = sum(live.values())
        for at, op in enumerate(outer):
            live |= {name: self.tensor_bytes.get(name, 0) for name in op.outputs}
            peak = max(peak, sum(live.values()))
            for name in {*op.inputs, *op.outputs}:
                if last.get(name, at if name in op.inputs else math.inf) <= at:
                    live.pop(name, None)
        return peak


def producers(ops: Sequence[GraphOp]) -> Mapping[str, GraphOp]:
    """Tensor -> the op of `ops` that makes it."""
    return {name: op for op in ops for name in op.outputs}


def after(ops: Sequence[GraphOp], op: str, before: frozenset[str]) -> Iterator[GraphOp]:
    """Those of `ops` of kind `op` whose first input is made by one of kind `before`.

    Args:
        ops: of a graph.
        op: kind of the ops to yield.
        before: kinds of ops that make their first input.
    """
    made_by = producers(ops)
    for item in ops:
        if item.op == op and item.inputs and (source := made_by.get(item.inputs[0])) and source.op in before:
            yield item
