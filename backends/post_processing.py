"""Which ops of a graph come after its last layers with weights: box decoding, softmax, norms of the outputs.

They are a small part of the work and make what the user reads, often values of very different sizes in one tensor:
pixels beside probabilities. In 8 bits the smaller ones are lost, so every backend leaves these ops in float.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

POST_PROCESSING = "kept in float: it makes an output from what the last layers with weights give"

Role = Literal["product", "mean", "activation", "softmax", "move", "join", "sampling", "other"]
"""``product``: multiplies by weights, or two activations; ``mean``: by one vector of weights, so that after a softmax
it is the mean of a distribution; ``activation``: the range of what it is given can absorb it, as ReLU's and clamp's;
``move``: its values are its first input's; ``join``: its values are those of all its inputs; ``sampling``: a pool or a
resize, as good in 8 bits and faster."""


@dataclass(frozen=True)
class Op:
    """One op of a graph.

    Attributes:
        name: what it is called by; unique.
        role: what it does.
        inputs: tensors that it reads, without constants.
        outputs: tensors that it makes.
    """

    name: str
    role: Role
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def post_processing(ops: Sequence[Op], outputs: Collection[str]) -> tuple[str, ...]:
    """Names of the ops after the last products, in execution order.

    The mean of a distribution belongs to them: box decoders take it, and would round in steps of the whole range. What
    only moves the values of a product does not: it loses nothing in 8 bits. Nor does a clamp of them, which cuts their
    range.

    Args:
        ops: of the graph, in execution order.
        outputs: tensors that the graph gives.
    """
    if all(op.role not in ("product", "mean") for op in ops):
        return ()
    made_by = {tensor: op for op in ops for tensor in op.outputs}
    readers: dict[str, list[Op]] = {}
    for op in ops:
        for tensor in op.inputs:
            readers.setdefault(tensor, []).append(op)
    last: set[str] = set()
    for op in reversed(ops):
        reading = [reader.name for tensor in op.outputs for reader in readers.get(tensor, ())]
        ends = bool(reading) or any(tensor in outputs for tensor in op.outputs)
        if ends and last.issuperset(reading) and _may_be_last(op, made_by):
            last.add(op.name)
    for op in ops:  # from the products on: what they absorb, or what loses nothing
        before = [made_by[tensor] for tensor in op.inputs if tensor in made_by]
        if op.name not in last or any(item.name in last for item in before):
            continue
        clamped = op.role == "join" and all(reader.role == "activation" for reader in readers.get(op.outputs[0], ()))
        if op.role in ("activation", "move") or (clamped and op.outputs[0] not in outputs):
            last.discard(op.name)
    return tuple(op.name for op in ops if op.name in last)


def _may_be_last(op: Op, made_by: dict[str, Op]) -> bool:
    if op.role == "mean":
        return any(_is_softmax(made_by.get(tensor), made_by) for tensor in op.inputs[:1])
    return op.role not in ("product", "sampling")


def _is_softmax(op: Op | None, made_by: dict[str, Op]) -> bool:
    """Whether `op` is a softmax, or moves the values of one."""
    while op is not None and op.role == "move":
        op = made_by.get(op.inputs[0]) if op.inputs else None
    return op is not None and op.role == "softmax"


def role_of(kind: str, roles: Iterable[tuple[Role, Collection[str]]]) -> Role:
    """The role of an op by tables of kinds; ``other`` where none has it."""
    return next((role for role, kinds in roles if kind in kinds), "other")
