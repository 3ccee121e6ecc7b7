"""The passes over the float model that every backend profits from, in order."""

from __future__ import annotations

from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass
from edgec.passes.fold_batch_norm import FoldBatchNorm
from edgec.passes.fold_constant_padding import FoldConstantPadding
from edgec.passes.prune_channels import PruneChannels
from edgec.passes.rewrite_as_modules import RewriteAsModules
from edgec.passes.strip_inference_no_ops import StripInferenceNoOps
from edgec.target.spec import Target


def portable_passes(target: Target) -> tuple[Pass[FloatModel], ...]:
    """What is done to the float model for `target`, whichever artifact is made of it."""
    passes: tuple[Pass[FloatModel], ...] = (
        RewriteAsModules(),
        StripInferenceNoOps(),
        FoldBatchNorm(),
        FoldConstantPadding(),
    )
    if target.prune.amount > 0:
        multiple = target.prune.round_to or target.device.channel_multiple
        passes += (PruneChannels(amount=target.prune.amount, round_to=multiple),)
    return passes
