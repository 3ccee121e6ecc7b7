"""What ONNX Runtime's quantizer or kernels cannot take of a model stays in float; the rest is quantized."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.backends.bisect import smallest_excluded
from edgec.backends.onnxruntime.capability import STATIC_OPS
from edgec.backends.onnxruntime.graph import OnnxModel, TensorType, canonical_bytes, constants, tensor_types
from edgec.backends.onnxruntime.place_pairs import Placement, place_pairs
from edgec.backends.onnxruntime.trial import check_runs
from edgec.errors import EdgecError, StorageError
from edgec.passes.contract import PassContext

if TYPE_CHECKING:
    import onnx

REMEMBERED = "refused-by-onnxruntime.json"
"""In the work folder: what was found for each lowered model, so that the next recipe does not search again."""


def place_what_runs(
    model: OnnxModel, how: Placement, plainest: Callable[[], Placement], ctx: PassContext
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Place QDQ pairs so that the result loads and runs, with as few more float ops as that takes.

    What it finds is the same whether or not a recipe has been tried before: what is remembered is the result of a
    search that all recipes share.

    Args:
        model: the float graph, with statistics.
        how: the recipe's placement.
        plainest: that of the recipe without any choice, which the search is made with first.
        ctx: for a sample, threads and the folder that remembers.

    Returns:
        The QDQ graph, and node -> why it could not be quantized.

    Raises:
        PassError: the quantizer fails, whatever is left out.
        UnsupportedError: ONNX Runtime cannot run the float graph either.
    """

    def attempt(refused: frozenset[str], placement: Placement = how) -> onnx.ModelProto:
        proto = place_pairs(model.proto, placement, refused)
        check_runs(replace(model, proto=proto), ctx)
        return proto

    try:
        return attempt(frozenset()), {}
    except StorageError:
        raise
    except EdgecError:
        known_as = signatures(model.proto, STATIC_OPS)

    def search() -> dict[str, str]:
        placement = plainest()
        names = [name for name in known_as if name not in placement.excluded]
        return smallest_excluded(
            names, lambda refused: attempt(refused, placement), signature=known_as.__getitem__
        ).reasons

    known = _remembered(ctx.work / REMEMBERED, _digest(model, how), search)
    names = [name for name in known_as if name not in known and name not in how.excluded]
    excluded = smallest_excluded(names, lambda more: attempt(more | {*known}), signature=known_as.__getitem__)
    reasons = {name: refusal(why) for name, why in {**known, **excluded.reasons}.items() if name not in how.excluded}
    return excluded.result, reasons


def refusal(why: str) -> str:
    """The coverage record of an op that had to be left out."""
    return f"kept in float: ONNX Runtime cannot take it in int8: {why}"


def signatures(proto: onnx.ModelProto, ops: Collection[str]) -> dict[str, Hashable]:
    """Node of one of `ops` -> what it has in common with others that fail or work alike."""
    types, known = tensor_types(proto), constants(proto)

    def tensor(name: str) -> Hashable:
        kind = types.get(name, TensorType(0, None))
        return name in known, kind.dtype, None if kind.shape is None else len(kind.shape)

    def attributes(node: onnx.NodeProto) -> Hashable:
        return tuple(sorted((item.name, item.SerializeToString(deterministic=True)) for item in node.attribute))

    return {
        node.name: (
            node.op_type,
            attributes(node),
            *map(tensor, (*node.input, *node.output)),
        )
        for node in proto.graph.node
        if node.op_type in ops
    }


def _digest(model: OnnxModel, how: Placement) -> str:
    digest = hashlib.sha256(canonical_bytes(replace(model, statistics={}), shapes=True))
    digest.update(f"{how.weights} {how.codes}".encode())
    return digest.hexdigest()


def _remembered(file: Path, key: str, search: Callable[[], dict[str, str]]) -> Mapping[str, str]:
    remembered: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    if key not in remembered:
        remembered[key] = search()
        file.write_text(json.dumps(remembered))
    return remembered[key]
