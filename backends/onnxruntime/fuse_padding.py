"""Constant zero padding becomes the convolution's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgec.backends.onnxruntime.graph import OnnxModel, constants, consumers, copy
from edgec.model.spec import Array
from edgec.passes.contract import Pass, PassContext, PassResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


@dataclass(frozen=True)
class FuseAsymmetricPadding(Pass[OnnxModel]):
    """Fold a constant zero ``Pad`` into the ``pads`` of the convolutions that read it.

    ONNX convolutions pad each side on its own, so also "SAME" padding at stride 2 folds exactly. A Pad that stays
    is an op of its own, with a copy of the tensor.
    """

    name: ClassVar[str] = "fuse-asymmetric-padding"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        proto = copy(model)
        count = 0
        while fusable := _fusable(proto):  # a Pad may feed a Pad
            pad, spatial = fusable[0]
            for node in consumers(proto)[pad.output[0]]:
                _widen(node, spatial)
                node.input[0] = pad.input[0]
            proto.graph.node.remove(pad)
            count += 1
        return PassResult(
            OnnxModel(model.name, proto, model.inputs, model.outputs), f"folded {count} Pad into convolutions"
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return "a constant zero Pad still feeds a convolution" if _fusable(model.proto) else None


def _fusable(proto: onnx.ModelProto) -> list[tuple[onnx.NodeProto, list[int]]]:
    """Pad nodes that can go, with their widths as a convolution states them (all begins, then all ends)."""
    if not any(node.op_type == "Pad" for node in proto.graph.node):
        return []
    known, readers = constants(proto), consumers(proto)
    outputs = {item.name for item in proto.graph.output}
    fusable = []
    for node in proto.graph.node:
        if node.op_type != "Pad" or node.output[0] in outputs:
            continue
        spatial = _spatial_widths(node, known)
        users = readers[node.output[0]]
        if spatial is not None and users and all(_takes(user, node.output[0], len(spatial) // 2) for user in users):
            fusable.append((node, spatial))
    return fusable


def _spatial_widths(node: onnx.NodeProto, known: Mapping[str, Array]) -> list[int] | None:
    """Widths of a zero Pad that leaves batch and channel axes alone; None for any other Pad."""
    names = [*node.input, "", "", ""][:4]
    _, widths_name, value_name, axes_name = names
    mode = next((item.s.decode() for item in node.attribute if item.name == "mode"), "constant")
    if mode != "constant" or axes_name or widths_name not in known:
        return None
    if value_name and (value_name not in known or known[value_name].size != 1 or known[value_name].item() != 0):
        return None
    widths = [int(width) for width in known[widths_name].reshape(-1)]
    rank = len(widths) // 2
    if rank < 3 or min(widths) < 0 or any(widths[axis] or widths[rank + axis] for axis in (0, 1)):
        return None
    return widths[2:rank] + widths[rank + 2 :]


def _takes(node: onnx.NodeProto, tensor: str, spatial_axes: int) -> bool:
    """Whether `node` is a convolution with explicit pads that reads `tensor` as its data, and only so."""
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or list(node.input).count(tensor) != 1:
        return False
    auto = next((item.s.decode() for item in node.attribute if item.name == "auto_pad"), "NOTSET")
    pads = next((list(item.ints) for item in node.attribute if item.name == "pads"), [0] * 2 * spatial_axes)
    return node.input[0] == tensor and auto in ("NOTSET", "VALID", "") and len(pads) == 2 * spatial_axes


def _widen(node: onnx.NodeProto, spatial: list[int]) -> None:
    from onnx import helper

    pads = next((list(item.ints) for item in node.attribute if item.name == "pads"), [0] * len(spatial))
    kept = [item for item in node.attribute if item.name not in ("pads", "auto_pad")]
    total = [own + more for own, more in zip(pads, spatial, strict=True)]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", total)])
