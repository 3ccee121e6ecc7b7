"""``nn.MultiheadAttention`` by its parts, whose projections torch can quantize; torch has the whole as one float op."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgec.model.attention import attention_in_parts
from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.passes.graph_edit import finish, input_shapes, module_of

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

PARTS = ("query_projection", "key_projection", "value_projection", "out_proj")


def open_attention(graph: fx.GraphModule, example: Sequence[torch.Tensor]) -> fx.GraphModule:
    """A copy of `graph` whose attention modules are linear layers around scaled dot-product attention.

    Left whole are those with masks, with weights that somebody reads, unbatched inputs, or added keys; and all of
    them, should the result differ from what they compute.
    """
    import torch
    from torch import nn

    opened = copy.deepcopy(graph)
    with attention_in_parts():
        shapes = input_shapes(opened, example)
        calls: dict[str, list[fx.Node]] = {}
        for node in opened.graph.nodes:
            if isinstance(module_of(node, opened), nn.MultiheadAttention):
                calls.setdefault(str(node.target), []).append(node)
        plain = {}
        for path, nodes in calls.items():
            attention: Any = opened.get_submodule(path)
            if all(_is_plain(node, attention, shapes) for node in nodes):
                plain[path] = attention
        if not plain:
            return graph
        for path, attention in plain.items():
            opened.set_submodule(path, _parts(attention))
            for node in calls[path]:
                _write_parts(node, opened, attention, shapes)
        finish(opened)
        with torch.no_grad():
            ours, theirs = (tensors_of(item(*[one.clone() for one in example])) for item in (opened, graph))
    return opened if close(ours, theirs) else graph


def _is_plain(node: fx.Node, module: nn.MultiheadAttention, shapes: dict[fx.Node, tuple[int, ...]]) -> bool:
    inputs = node.args[:3]
    given = dict(node.kwargs)
    given.update(
        zip(("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights"), node.args[3:], strict=False)
    )
    masked = any(given.get(name) is not None for name in ("key_padding_mask", "attn_mask")) or given.get("is_causal")
    added = module.bias_k is not None or module.bias_v is not None or module.add_zero_attn
    reads_first = all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)
    ranks = [len(shapes[item]) for item in node.all_input_nodes if item in shapes]
    batched = len(inputs) == 3 and set(inputs) == set(node.all_input_nodes) and set(ranks) == {3}
    return bool(batched and reads_first and not masked and not added)


def _parts(attention: nn.MultiheadAttention) -> nn.Module:
    """The four linear layers, under the attention's own path."""
    from torch import nn

    width: int = attention.embed_dim
    merged: Any = attention.in_proj_weight
    separate: list[Any] = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    weights = list(merged.chunk(3)) if merged is not None else separate
    bias = attention.in_proj_bias
    holder = nn.Module()
    for place, (name, weight) in enumerate(zip(PARTS, weights, strict=False)):
        part = nn.Linear(weight.shape[1], width, bias=bias is not None)
        part.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            part.bias = nn.Parameter(bias.detach()[place * width : (place + 1) * width].clone())
        holder.add_module(name, part)
    last = attention.out_proj
    out = nn.Linear(width, width, bias=last.bias is not None)  # its own class is one that torch does not quantize
    out.load_state_dict(last.state_dict())
    holder.add_module(PARTS[-1], out)
    return holder.eval()


def _write_parts(
    node: fx.Node, graph: fx.GraphModule, attention: nn.MultiheadAttention, shapes: dict[fx.Node, tuple[int, ...]]
) -> None:
    """Calls of the parts in the place of `node` and of the ``[0]`` that reads it."""
    import torch

    path, heads = str(node.target), attention.num_heads
    sources: Any = node.args[:3]
    with graph.graph.inserting_before(node):
        call = graph.graph.call_method
        projected = []
        for name, source in zip(PARTS, sources, strict=False):
            first, second, _ = shapes[source]
            made = graph.graph.call_module(f"{path}.{name}", (source,))
            made = call("reshape", (made, first, second, heads, attention.head_dim))
            # (batch, length, heads, size) or (length, batch, heads, size) -> (batch, heads, length, size)
            order = (0, 2, 1, 3) if attention.batch_first else (1, 2, 0, 3)
            projected.append(call("permute", (made, *order)))
        attend: Any = torch.nn.functional.scaled_dot_product_attention
        mixed = graph.graph.call_function(attend, tuple(projected))
        mixed = call("permute", (mixed, *((0, 2, 1, 3) if attention.batch_first else (2, 0, 1, 3))))
        first, second, _ = shapes[sources[0]]
        mixed = call("reshape", (mixed, first, second, attention.embed_dim))
        result = graph.graph.call_module(f"{path}.{PARTS[-1]}", (mixed,))
    for user in list(node.users):
        user.replace_all_uses_with(result)
        graph.graph.erase_node(user)
    graph.graph.erase_node(node)
