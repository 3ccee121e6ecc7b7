"""Which ops of a graph stay in float in every backend: its front end, and what follows its last layers with weights.

Post-processing: box decoding, softmax, norms of the outputs. It is a small part of the work and makes what the user
reads, often values of very different sizes in one tensor: pixels beside probabilities. In 8 bits the smaller ones are
lost.

Front end: the logarithm of a spectrum, as audio networks compute it from their input, and all that makes its argument.
A logarithm shows relative errors, and a power spectrum spans many orders of magnitude: in 256 even steps all but its
peaks are zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

POST_PROCESSING = "kept in float: it makes an output from what the last layers with weights give"
BESIDE = "computed in float, like the layers beside it that the recipe keeps so"
FRONT_END = "kept in float: it belongs to the logarithm of a spectrum, whose small values 256 even steps would lose"

Role = Literal[
    "product",
    "mean",
    "bias",
    "activation",
    "softmax",
    "move",
    "join",
    "sampling",
    "arithmetic",
    "power",
    "logarithm",
    "other",
]
"""``product``: multiplies by weights, or two activations; ``mean``: by one vector of weights, so that after a softmax
it is the mean of a distribution; ``bias``: adds a constant; ``activation``: what it is given can absorb its range, as
ReLU's and clamp's; ``move``: its values are its first input's; ``join``: its values are those of all its inputs;
``sampling``: a pool or a resize, as good in 8 bits and faster; ``arithmetic``: sums, products, minimum and maximum of
elements; ``power``: a square, a root, a magnitude, a Fourier transform."""
_OF_SPECTRA: frozenset[Role] = frozenset({"product", "mean", "bias", "move", "join", "sampling", "arithmetic", "power"})


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


def float_regions(ops: Sequence[Op], outputs: Collection[str]) -> dict[str, str]:
    """Name of each op that stays in float -> the reason, in execution order.

    Args:
        ops: of the graph, in execution order.
        outputs: tensors that the graph gives.
    """
    reasons = {
        **dict.fromkeys(post_processing(ops, outputs), POST_PROCESSING),
        **dict.fromkeys(front_end(ops), FRONT_END),
    }
    return {op.name: reasons[op.name] for op in ops if op.name in reasons}


def beside(ops: Sequence[Op], chosen: Collection[str], weighted: Collection[str]) -> frozenset[str]:
    """Names of the ops beside `chosen` ones, which quantized would round tensors that are to stay unrounded.

    They read what a chosen op makes, up to the next layer with integer weights, or no integer product reads what they
    make: a pool or a sum would get a quantization of its own. An activation right after an integer product is a part of
    it. A product of two activations is an op as others, and an integer product where it reads nothing in float.

    Args:
        ops: of the graph, in execution order.
        chosen: names of those that take and make floats.
        weighted: names of the layers with integer weights.
    """
    made_by = {tensor: op.name for op in ops for tensor in op.outputs}
    before = {op.name: {made_by[tensor] for tensor in op.inputs if tensor in made_by} for op in ops}
    floats = set(chosen)
    for op in ops:
        if op.name not in weighted and floats & before[op.name]:
            floats.add(op.name)
    products = {*weighted} | {op.name for op in ops if op.role in ("product", "mean")} - floats
    joined = products | {op.name for op in ops if op.role == "activation" and before[op.name] & products} - floats
    for op in reversed(ops):
        if op.name in joined:
            joined |= before[op.name] - floats
    return frozenset(op.name for op in ops if op.name not in joined and op.name not in chosen)


def front_end(ops: Sequence[Op]) -> tuple[str, ...]:
    """Names of the ops that make the logarithm of a spectrum from the graph's inputs, in execution order.

    A spectrum is what products and arithmetic make of the inputs if a power is among them. An activation function
    ends it, unless it only keeps the logarithm's argument positive: features that a network has learned may be rounded.

    Args:
        ops: of the graph, in execution order.
    """
    made_by = {tensor: op for op in ops for tensor in op.outputs}
    names: set[str] = set()
    for op in ops:
        if op.role == "logarithm" and (spectrum := _spectrum(op, made_by)):
            names |= {op.name, *spectrum}
    return tuple(op.name for op in ops if op.name in names)


def _spectrum(logarithm: Op, made_by: dict[str, Op]) -> set[str]:
    """Names of all ops that a logarithm depends on; empty where they make no spectrum."""
    pending = [(tensor, False) for tensor in logarithm.inputs]  # with whether a product reads what is made of it
    seen: dict[tuple[str, bool], Op] = {}
    while pending:
        tensor, read = pending.pop()
        op = made_by.get(tensor)
        if op is None or (op.name, read) in seen:
            continue
        if op.role not in _OF_SPECTRA and (read or op.role != "activation"):
            return set()
        seen[op.name, read] = op
        pending += [(item, read or op.role in ("product", "mean")) for item in op.inputs]
    return {op.name for op in seen.values()} if any(op.role == "power" for op in seen.values()) else set()


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
        clamped = op.role == "join" and all(
            reader.role in ("bias", "activation") for reader in readers.get(op.outputs[0], ())
        )
        if op.role in ("bias", "activation", "move") or (clamped and op.outputs[0] not in outputs):
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
