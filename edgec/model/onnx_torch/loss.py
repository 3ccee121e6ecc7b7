"""Losses, which some exported graphs carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter
from edgec.model.onnx_torch.recorder import Value


def _loss(call: Call, logarithms: Value, targets: Value, weights: Value) -> Value:
    whole = targets if targets.dtype == torch.int64 else targets.to(torch.int64)
    kept = torch.ne(whole, call.get("ignore_index", -1))
    classes = torch.where(kept, whole, torch.zeros((), dtype=torch.int64))
    picked = torch.neg(torch.squeeze(torch.gather(logarithms, 1, torch.unsqueeze(classes, 1)), 1))
    share = kept.to(logarithms.dtype)
    if weights is not None:
        own = torch.reshape(torch.index_select(weights, 0, torch.reshape(classes, [-1])), list(classes.shape))
        share = torch.mul(share, own)
    loss = torch.mul(picked, share)
    how = call.get("reduction", "mean")
    if how == "none":
        return loss
    total = torch.sum(loss)
    return total if how == "sum" else torch.div(total, torch.sum(share))


def _softmax_cross_entropy(call: Call) -> Any:
    logarithms = call.layer(nn.LogSoftmax(dim=1), call[0])
    return _loss(call, logarithms, call[1], call[2]), logarithms


CONVERTERS: Mapping[str, Converter] = {
    "NegativeLogLikelihoodLoss": lambda call: _loss(call, call[0], call[1], call[2]),
    "SoftmaxCrossEntropyLoss": _softmax_cross_entropy,
}
"""Op -> converter."""
