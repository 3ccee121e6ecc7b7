"""Static int8 by TensorFlow's quantizer, with edgec's ranges and float layers. Runs in the compile worker only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from edgec.backends.tflite.audit import base_name
from edgec.backends.tflite.capability import NO_ARITHMETIC
from edgec.backends.tflite.finish import audit
from edgec.backends.tflite.flatbuffer import indices, kind_of, pack, read_ops, text, unpack
from edgec.backends.tflite.kernel_ranges import fixed_ranges, widen_dead
from edgec.backends.tflite.layers import PlacedLayer
from edgec.backends.tflite.quantizable import Quantizable, same_values, set_ranges, signature_names
from edgec.errors import UnsupportedError
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import RangeMethod
from edgec.quant.statistics import TensorStatistics

Ranges = Mapping[int, tuple[float, float] | None]
"""Tensor of the quantizable program -> its range; None: it has none that 8 bits could hold."""
MISCOPIED = frozenset({"REVERSE_V2"})
"""Ops that stay float: the kernel copies codes, and yet TensorFlow's quantizer gives its two sides different scales.

With them in int8 the two directions of a recurrent layer would not fit together (9 dB instead of 36).
"""
_BETWEEN = frozenset({"ADD", "DIV", "MUL", "RESHAPE", "SELECT", "SELECT_V2", "SUB", "TRANSPOSE"})
_MASKING = frozenset({"ADD", "SELECT", "SELECT_V2", "SUB"})
WIDEST = 255.0
"""Range of softmax's argument at which a step is a factor of e."""
MASKED = "it makes softmax's argument, where a mask's magnitude would eat all 256 steps"
LIMIT = 1e30
"""Beyond this magnitude a step overflows all else; masks are often made of the largest float."""


def choose_ranges(
    quantizable: Quantizable, statistics: Mapping[int, TensorStatistics], method: RangeMethod
) -> dict[int, tuple[float, float] | None]:
    """The range of every activation: by `method`, unless its kernel insists on another.

    Outputs of the model keep their whole range: what a clipped head cuts off first is the answer itself, the largest
    logit or the far end of a regression.
    """
    model = unpack(quantizable.content)
    same = same_values(model)
    outputs = {same.get(index, index) for index in signature_names(model)[1].values()}
    found: dict[int, tuple[float, float] | None] = {}
    for index, item in statistics.items():
        usable = item.finite and item.low > -LIMIT and item.high < LIMIT
        name = text(model.subgraphs[0].tensors[index].name)
        found[index] = choose_range(item, "minmax" if index in outputs else method, name=name) if usable else None
    found |= {target: found[source] for target, source in same.items() if source in found}
    widen_dead(model, found)
    found |= {target: found[source] for target, source in same.items() if source in found}
    fixed = {index: item for index, item in fixed_ranges(model).items() if found.get(index)}
    return found | fixed


def quantize(quantizable: Quantizable, ranges: Ranges, chosen: Sequence[PlacedLayer], *, per_channel: bool) -> bytes:
    """The quantized program, with float inputs and outputs, as the quantizer leaves it.

    Args:
        quantizable: the float program.
        ranges: of its activations.
        chosen: layers that stay in float.
        per_channel: granularity of weights.

    Raises:
        UnsupportedError: the quantizer fails.
    """
    from tensorflow.lite.python.convert import mlir_quantize

    model = unpack(quantizable.content)
    set_ranges(model, ranges)
    try:
        return bytes(
            mlir_quantize(
                pack(model),
                disable_per_channel=not per_channel,
                disable_per_channel_for_dense_layers=not per_channel,
                denylisted_nodes=_denied(model, ranges, chosen),
            )
        )
    except Exception as exc:
        told = " ".join(str(exc).split())[:300]
        raise UnsupportedError(f"TensorFlow's quantizer fails: {told}", where="tflite") from exc


def _denied(model: Any, ranges: Ranges, chosen: Sequence[PlacedLayer]) -> list[str]:
    """Names of the ops that may not be quantized, as the quantizer knows them: by the tensor they make."""
    graph = model.subgraphs[0]
    places = {place for layer in chosen for place in layer.places}
    unusable = {index for index, found in ranges.items() if found is None}
    masked = masked_softmaxes(model, ranges)
    names = []
    for place, operator in enumerate(graph.operators or ()):
        outputs = indices(operator.outputs)
        refused = place in places or place in masked or kind_of(model, operator) in MISCOPIED
        if outputs and (refused or unusable & {*indices(operator.inputs), *outputs}):
            names.append(text(graph.tensors[outputs[0]].name))
    return names


def masked_softmaxes(model: Any, ranges: Ranges) -> set[int]:
    """Places of softmaxes whose argument may hold a mask, and of the ops between it and the product before them.

    A softmax whose argument is only scaled stays with the quantizer, unless 256 steps would be of more than 1 each:
    onnx2tf may add a mask to a product's bias.
    """
    operators = model.subgraphs[0].operators or ()
    made_by = {index: place for place, item in enumerate(operators) for index in indices(item.outputs)}
    found: set[int] = set()
    for place, operator in enumerate(operators):
        if kind_of(model, operator) not in ("SOFTMAX", "LOG_SOFTMAX"):
            continue
        chain: set[int] = set()
        pending = indices(operator.inputs)[:1]
        while pending:
            source = made_by.get(pending.pop())
            if source is None or source in chain or kind_of(model, operators[source]) not in _BETWEEN:
                continue
            chain.add(source)
            pending.extend(indices(operators[source].inputs))
        if any(kind_of(model, operators[item]) in _MASKING for item in chain):
            found |= {place, *chain}
        argument = indices(operator.inputs)[0]
        span = ranges.get(argument)
        if span is not None and span[1] - span[0] > WIDEST:
            found |= {place, *chain, *({made_by[argument]} if argument in made_by else ())}
    return found


def dtypes_of_layers(quantizable: Quantizable, content: bytes) -> dict[str, str]:
    """Layer -> ``int8``, ``float32`` or ``mixed``, as read from a finished artifact."""
    known = {layer.name for layer in quantizable.layers}
    found: dict[str, set[str]] = defaultdict(set)
    ends = output_tensors(quantizable)
    for item in read_ops(content):
        if item.op in NO_ARITHMETIC or not item.outputs:
            continue
        name = base_name(ends.get(item.outputs[0].name, item.outputs[0].name))
        if name in known:
            found[name].add(audit(item, "int8").dtype)
    return {name: found[name].pop() if len(found[name]) == 1 else "mixed" for name in list(found)}


def output_tensors(quantizable: Quantizable) -> dict[str, str]:
    """Output name of the model -> name of the tensor in the quantizable program."""
    model = unpack(quantizable.content)
    return {name: text(model.subgraphs[0].tensors[index].name) for name, index in signature_names(model)[1].items()}
