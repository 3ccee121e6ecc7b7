"""Average pools over the whole plane become global ones, which keep a scale of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgec.backends.onnxruntime.graph import OnnxModel, copy
from edgec.passes.contract import Pass, PassContext, PassResult

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class GlobalizeAveragePool(Pass[OnnxModel]):
    """Rewrite an unpadded ``AveragePool`` whose window is its whole input as ``GlobalAveragePool``; exact.

    The quantizer gives an AveragePool's output the scale of its input, and means spread much less than values: the
    output then uses few of the 256 steps. A global pool's output gets the range that calibration saw.
    """

    name: ClassVar[str] = "globalize-average-pool"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        proto = copy(model)
        pools = _whole_plane(proto)
        for node in pools:
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
        return PassResult(
            OnnxModel(model.name, proto, model.inputs, model.outputs), f"{len(pools)} AveragePool made global"
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return "an average pool over a whole plane is left" if _whole_plane(model.proto) else None


def _whole_plane(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    shapes = {
        item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
        for item in (*proto.graph.value_info, *proto.graph.input)
    }
    return [node for node in proto.graph.node if node.op_type == "AveragePool" and _is_whole(node, shapes)]


def _is_whole(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the window covers all spatial axes exactly. With no pads, any stride then gives one value a channel."""
    attributes = {item.name: item for item in node.attribute}
    window = tuple(attributes["kernel_shape"].ints)
    padded = "pads" in attributes and any(attributes["pads"].ints)
    dilated = "dilations" in attributes and any(step != 1 for step in attributes["dilations"].ints)
    automatic = "auto_pad" in attributes and attributes["auto_pad"].s not in (b"NOTSET", b"VALID")
    return shapes.get(node.input[0], ())[2:] == window and not (padded or dilated or automatic)
