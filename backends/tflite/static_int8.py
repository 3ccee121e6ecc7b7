"""Static int8 by TensorFlow's quantizer, with edgec's ranges and float layers. Runs in the compile worker only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.backends.tflite.audit import base_name
from edgec.backends.tflite.bisect_ops import Candidate, leave_out
from edgec.backends.tflite.capability import NO_ARITHMETIC
from edgec.backends.tflite.finish import audit
from edgec.backends.tflite.flatbuffer import indices, kind_of, pack, read_ops, text, unpack
from edgec.backends.tflite.functions_read import functions_read
from edgec.backends.tflite.hidden_joins import hide_joins, restore_joins
from edgec.backends.tflite.kept_float import Ranges, coverage_of_kept, kept_beside, kept_float, tensors_between
from edgec.backends.tflite.kernel_ranges import fixed_ranges, widen_dead
from edgec.backends.tflite.layers import PlacedLayer
from edgec.backends.tflite.quantizable import Quantizable, same_values, set_ranges, signature_names
from edgec.backends.tflite.try_out import check_kernels
from edgec.errors import UnsupportedError
from edgec.passes.coverage import Coverage
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import RangeMethod
from edgec.quant.saturation import cut
from edgec.quant.statistics import TensorStatistics

LIMIT = 1e30
"""Beyond this magnitude a step overflows all else; masks are often made of the largest float."""


def choose_ranges(
    quantizable: Quantizable, statistics: Mapping[int, TensorStatistics], method: RangeMethod
) -> dict[int, tuple[float, float] | None]:
    """The range of every activation: by `method`, unless its kernel insists on another.

    Outputs of the model keep their whole range: what a clipped head cuts off first is the answer itself, the largest
    logit or the far end of a regression.

    Args:
        quantizable: what of the program can be int8.
        statistics: of each tensor, by its number.
        method: how ranges follow from statistics.
    """
    model = unpack(quantizable.content)
    same = same_values(model)
    outputs = {same.get(index, index) for index in signature_names(model)[1].values()}
    chosen: dict[int, tuple[float, float] | None] = {}
    for index, item in statistics.items():
        usable = item.finite and item.low > -LIMIT and item.high < LIMIT
        name = text(model.subgraphs[0].tensors[index].name)
        chosen[index] = choose_range(item, "minmax" if index in outputs else method, name=name) if usable else None
    for index, function in functions_read(model).items():
        if (span := chosen.get(index)) is not None and index not in outputs:
            chosen[index] = cut(*span, function)
    chosen |= {target: chosen[source] for target, source in same.items() if source in chosen}
    widen_dead(model, chosen)
    chosen |= {target: chosen[source] for target, source in same.items() if source in chosen}
    fixed = {index: item for index, item in fixed_ranges(model).items() if chosen.get(index)}
    return chosen | fixed


@dataclass(frozen=True)
class Quantized:
    """A quantized program, and what of it had to stay in float beside the chosen layers."""

    content: bytes
    coverage: tuple[Coverage, ...]


def quantize(
    quantizable: Quantizable,
    ranges: Ranges,
    chosen: Sequence[PlacedLayer],
    *,
    per_channel: bool,
    runtimes: Sequence[str] = (),
) -> Quantized:
    """The quantized program, with float inputs and outputs, as the quantizer leaves it.

    An operator that the quantizer fails at, or whose int8 form a runtime has not, stays in float.

    Args:
        quantizable: the float program.
        ranges: of its activations.
        chosen: layers that stay in float.
        per_channel: granularity of weights.
        runtimes: those that have to load it.

    Raises:
        UnsupportedError: the quantizer fails even at the program without operators to quantize.
    """
    model = unpack(quantizable.content)
    graph = model.subgraphs[0]
    names = {
        place: text(graph.tensors[indices(item.outputs)[0]].name)
        for place, item in enumerate(graph.operators or ())
        if len(indices(item.outputs))
    }
    kept = kept_float(model, ranges)
    kept |= kept_beside(model, {place for layer in chosen for place in layer.places}, kept)
    places = {place for layer in chosen for place in layer.places} | set(kept)
    set_ranges(model, {**ranges, **dict.fromkeys(tensors_between(model, places))})
    coverage = coverage_of_kept(model, kept)
    hidden = hide_joins(model, places)
    marked = pack(model)
    denied = [names[place] for place in sorted(places) if place in names]
    candidates = [Candidate(name, _signature(model, place)) for place, name in names.items() if place not in places]

    def attempt(refused: Sequence[str]) -> bytes:
        content = _by_tensorflow(marked, [*denied, *refused], per_channel=per_channel)
        content = restore_joins(content, hidden)
        check_kernels(content, runtimes)
        return content

    try:
        content, left = leave_out(attempt, candidates)
    except Exception as exc:
        message = " ".join(str(exc).split())[:300]
        raise UnsupportedError(f"TensorFlow's quantizer fails: {message}", where="tflite") from exc
    place_of = {name: place for place, name in names.items()}
    refused = {place_of[item.candidate.name]: f"left in float: {_first_line(item.reason)}" for item in left}
    return Quantized(content, (*coverage, *coverage_of_kept(model, refused)))


def _by_tensorflow(content: bytes, denied: Sequence[str], *, per_channel: bool) -> bytes:
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(
        mlir_quantize(
            content,
            disable_per_channel=not per_channel,
            disable_per_channel_for_dense_layers=not per_channel,
            denylisted_nodes=list(denied),
        )
    )


def _signature(model: Any, place: int) -> tuple[Any, ...]:
    """What the quantizer's verdict on an operator depends on: kind and options, ranks and dtypes of operands."""
    graph = model.subgraphs[0]
    operator = graph.operators[place]
    operands = [graph.tensors[index] for index in (*indices(operator.inputs), *indices(operator.outputs)) if index >= 0]
    options = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
    settings = tuple(sorted((name, repr(value)) for name, value in options.items()))
    return kind_of(model, operator), settings, tuple((item.type, len(indices(item.shape))) for item in operands)


def _first_line(reason: str) -> str:
    return next((line.strip() for line in reason.splitlines() if line.strip()), "the quantizer fails at it")[:200]


def dtypes_of_layers(quantizable: Quantizable, content: bytes) -> dict[str, str]:
    """Layer -> ``int8``, ``float32`` or ``mixed``, as read from a finished artifact."""
    known = {layer.name for layer in quantizable.layers}
    dtypes: dict[str, set[str]] = defaultdict(set)
    ends = output_tensors(quantizable)
    for item in read_ops(content):
        if item.op in NO_ARITHMETIC or not item.outputs:
            continue
        name = base_name(ends.get(item.outputs[0].name, item.outputs[0].name))
        if name in known:
            dtypes[name].add(audit(item, "int8").dtype)
    return {name: dtypes[name].pop() if len(dtypes[name]) == 1 else "mixed" for name in list(dtypes)}


def output_tensors(quantizable: Quantizable) -> dict[str, str]:
    """Output name of the model -> name of the tensor in the quantizable program."""
    model = unpack(quantizable.content)
    return {name: text(model.subgraphs[0].tensors[index].name) for name, index in signature_names(model)[1].items()}
