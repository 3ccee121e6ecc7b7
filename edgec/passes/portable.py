"""The passes over the float model that every backend profits from, in order."""

from __future__ import annotations

from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass
from edgec.passes.fold_batch_norm import FoldBatchNorm
from edgec.passes.fold_constant_padding import FoldConstantPadding
from edgec.passes.replace_in_place import ReplaceInPlaceOps
from edgec.passes.rewrite_as_modules import RewriteAsModules
from edgec.passes.strip_inference_no_ops import StripInferenceNoOps


def before_pruning() -> tuple[Pass[FloatModel], ...]:
    """The passes that turn calls into plain modules, whose channels can be removed and whose BatchNorm can learn."""
    return (ReplaceInPlaceOps(), RewriteAsModules(), StripInferenceNoOps())


def after_pruning() -> tuple[Pass[FloatModel], ...]:
    """The passes that merge ops, for inference only."""
    return (FoldBatchNorm(), FoldConstantPadding())


def portable_passes() -> tuple[Pass[FloatModel], ...]:
    """The passes on the float model that all artifacts share, without pruning."""
    return (*before_pruning(), *after_pruning())
