"""The Attention op as products and a softmax, which can be quantized one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, is_constant
from edgec.model.onnx_torch.elementwise import mul
from edgec.model.onnx_torch.recorder import Value


def _attention(call: Call) -> Any:
    queries, keys, values = call[0], call[1], call[2]
    flat = queries.ndim == 3
    if flat:
        heads, shared = call.get("q_num_heads"), call.get("kv_num_heads")
        if not heads or not shared:
            raise NoTorchFormError("q_num_heads or kv_num_heads is missing")
        queries = heads_first(queries, heads)
        keys, values = heads_first(keys, shared), heads_first(values, shared)
    past = 0
    if call[4] is not None:
        past = call[4].shape[2]
        keys, values = torch.cat([call[4], keys], 2), torch.cat([call[5], values], 2)
    presents = keys, values
    repeats = queries.shape[1] // keys.shape[1]
    if repeats > 1:
        keys, values = (torch.repeat_interleave(item, repeats, 1) for item in (keys, values))
    scale = call.get("scale") or 1 / math.sqrt(queries.shape[3])
    scores = torch.matmul(
        mul(queries, torch.tensor(math.sqrt(scale))), mul(torch.transpose(keys, 2, 3), torch.tensor(math.sqrt(scale)))
    )
    mode = call.get("qk_matmul_output_mode", 0)
    seen = [scores]
    for mask in _masks(call, queries.shape[2], keys.shape[2], past):
        scores = torch.add(scores, mask)
    seen.append(scores)
    cap = call.get("softcap", 0.0)
    if cap:
        scores = torch.mul(torch.tanh(torch.div(scores, cap)), cap)
    seen.append(scores)
    scores = call.layer(nn.Softmax(dim=-1), scores)
    seen.append(scores)
    result = torch.matmul(scores, values)
    if flat:
        result = torch.permute(result, [0, 2, 1, 3])
        result = torch.reshape(result, [result.shape[0], result.shape[1], -1])
    return result, *presents, seen[mode]


def heads_first(value: Value, heads: int) -> Value:
    """[batch, length, width] as [batch, heads, length, width / heads]."""
    batch, length, width = value.shape
    return torch.permute(torch.reshape(value, [batch, length, heads, width // heads]), [0, 2, 1, 3])


def _masks(call: Call, queries: int, keys: int, past: int) -> list[Value]:
    """The tensors added to the scores; constants are added up to one."""
    fixed = torch.zeros(queries, keys)
    if call.get("is_causal", 0):
        steps = torch.arange(keys)[None] > torch.arange(queries)[:, None] + past
        fixed = fixed.masked_fill(steps, -math.inf)
    masks = []
    mask = call[3]
    if mask is not None:
        missing = keys - mask.shape[-1]
        if mask.dtype == torch.bool:
            mask = torch.where(mask, torch.zeros(()), torch.tensor(-math.inf))
        if missing:
            mask = torch.nn.functional.pad(mask, [0, missing], "constant", -math.inf)
        if is_constant(mask):
            fixed = fixed + mask
        else:
            masks.append(mask)
    if call[6] is not None:
        lengths = call.constant(6, "nonpad_kv_seqlen")
        hidden = torch.arange(keys)[None] >= lengths[:, None]
        fixed = fixed + torch.zeros(hidden.shape).masked_fill(hidden, -math.inf)[:, None, None]
    return [*masks, fixed] if bool(fixed.any()) else masks


CONVERTERS: Mapping[str, Converter] = {"Attention": _attention}
"""Op -> converter."""
