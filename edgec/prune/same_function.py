"""Whether a pruned graph computes what the whole one does without the removed channels.

This is what makes wrong surgery an error instead of a wrong net: the whole graph runs once more at its full width, with
each pruned layer reading its channels where they were, and zeros where channels are gone. Ops that mix channels in a
way that pruning does not follow (a shape written as a number, a softmax or mean over channels, a shuffle) give
something else there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import fx, nn

from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.passes.weight_layers import channel_axis
from edgec.prune.dependencies import Kept
from edgec.prune.whole import WEIGHTED


class _AtFullWidth(nn.Module):
    """A pruned layer between channels as wide as they were.

    Args:
        layer: the pruned one.
        kept: which channels are left.
        inputs: channels of the unpruned layer's input; 0 if it has none (an embedding).
        outputs: channels of the unpruned layer's output.
        axis: of the channels.
    """

    def __init__(self, layer: nn.Module, kept: Kept, outputs: int, axis: int) -> None:
        super().__init__()
        self.layer, self._axis, self._width = layer, axis, outputs
        self._inputs = None if isinstance(layer, nn.Embedding) else torch.tensor(kept.inputs)
        self._outputs = torch.tensor(kept.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        narrow: torch.Tensor = self.layer(x if self._inputs is None else x.index_select(self._axis, self._inputs))
        shape = list(narrow.shape)
        shape[self._axis] = self._width
        return narrow.new_zeros(shape).index_copy(self._axis, self._outputs, narrow)


def difference(
    whole: fx.GraphModule, pruned: fx.GraphModule, kept: dict[str, Kept], example: Sequence[torch.Tensor]
) -> str | None:
    """None when `pruned` computes what `whole` does without the removed channels; else what is wrong.

    Args:
        whole: the unpruned graph.
        pruned: the pruned one.
        kept: what is left of each layer that lost channels, by name.
        example: one sample's inputs.
    """
    wide = copy.deepcopy(whole)
    for name, left in kept.items():
        before, after = wide.get_submodule(name), pruned.get_submodule(name)
        wide.set_submodule(name, _AtFullWidth(after, left, _width(before), _axis(before)))
    with torch.no_grad():
        try:
            ours = tensors_of(pruned(*[item.clone() for item in example]))
            theirs = tensors_of(wide(*[item.clone() for item in example]))
        except Exception as exc:
            return (str(exc).strip() or type(exc).__name__).splitlines()[0]
    if [item.shape for item in ours] != [item.shape for item in theirs]:
        return f"the outputs would have the shapes {[tuple(item.shape) for item in ours]}"
    if not close(ours, theirs, tolerance=1e-3):
        return "an op between the layers mixes their channels"
    return None


def _axis(layer: nn.Module) -> int:
    """Where the channels are, from the end for layers that take inputs with and without a batch axis."""
    return channel_axis(layer) if isinstance(layer, (*WEIGHTED, nn.LayerNorm, nn.Embedding)) else 1


def _width(layer: nn.Module) -> int:
    for name in ("out_channels", "out_features", "num_features", "num_channels", "num_parameters", "embedding_dim"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    assert isinstance(layer, nn.LayerNorm)
    return layer.normalized_shape[-1]
