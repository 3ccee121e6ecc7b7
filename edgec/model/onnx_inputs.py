"""Input specs of an ONNX file: what it fixes, what the project states, and batches of 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgec.errors import InputSpecError
from edgec.model.onnx_file import DTYPES, UNNAMED, dims_of, graph_inputs
from edgec.model.spec import TensorSpec
from edgec.project.spec import DType
from edgec.toml_source import suggest

_BATCH_NAMES = frozenset({"batch", "batch_size", "batchsize", "batch_dim"})
"""Names that exporters give the batch."""


def input_specs(proto: Any, stated: Sequence[TensorSpec], name: str) -> tuple[TensorSpec, ...]:
    """The input specs of the file, with `stated` ones for dims that are not fixed.

    A name that a stated shape gives a size has it in all inputs. A batch is 1: the first axis where it is symbolic,
    and every axis of that name, as recurrent states have their batch elsewhere.

    Args:
        proto: the ModelProto.
        stated: the project's inputs.
        name: the file as the project names it, for messages.

    Raises:
        InputSpecError: `stated` contradicts the file, or a symbolic dim is not stated.
    """
    specs, problems = settled_inputs(proto, stated, name)
    if problems:
        raise problems[0]
    return tuple(specs.values())


def settled_inputs(
    proto: Any, stated: Sequence[TensorSpec], name: str
) -> tuple[dict[str, TensorSpec], list[InputSpecError]]:
    """`input_specs` by name of those inputs that can be settled, and everything that is wrong with the others.

    Args:
        proto: the ModelProto.
        stated: the project's inputs.
        name: the file as the project names it, for messages.
    """
    given = {spec.name: spec for spec in stated}
    inputs = graph_inputs(proto)
    names = [item.name for item in inputs]
    known = f"it has: {', '.join(names)}"
    problems = [
        InputSpecError(f"no input named {item}", where=name, hint=suggest(item, names) or known)
        for item in sorted(set(given) - set(names))
    ]
    sizes = _named_sizes(inputs, given)
    specs = {}
    for item in inputs:
        try:
            specs[item.name] = _input_spec(item, given.get(item.name), sizes, name)
        except InputSpecError as error:
            problems.append(error)
    return specs, problems


def _input_spec(item: Any, stated: TensorSpec | None, sizes: Mapping[str, int], name: str) -> TensorSpec:
    code = item.type.tensor_type.elem_type
    if code not in DTYPES:
        raise InputSpecError(
            f'input "{item.name}" has a dtype edgec does not feed (ONNX type {code})',
            where=name,
            hint="export the model with float32 inputs",
        )
    dims = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in dims_of(item)]
    if dims and isinstance(dims[0], str) and stated is None:
        dims[0] = 1
    return merge(item.name, dims, DTYPES[code], stated, name)


def _named_sizes(inputs: Sequence[Any], given: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Sizes of symbolic dims by name: those of the stated shapes, and 1 for batches."""
    sizes: dict[str, int] = {}
    for item in inputs:
        dims = dims_of(item)
        spec = given.get(item.name)
        if spec is not None and len(spec.shape) == len(dims):
            for dim, size in zip(dims, spec.shape, strict=True):
                if isinstance(dim, str) and dim != UNNAMED:
                    sizes.setdefault(dim, size)
    for item in inputs:
        dims = dims_of(item)
        if item.name not in given and dims and isinstance(dims[0], str) and dims[0] != UNNAMED:
            sizes.setdefault(dims[0], 1)
        for dim in dims:
            if isinstance(dim, str) and dim.lower() in _BATCH_NAMES:
                sizes.setdefault(dim, 1)
    return sizes


def merge(name: str, dims: Sequence[int | str], dtype: DType, stated: TensorSpec | None, where: str) -> TensorSpec:
    """One input's spec from what the file fixes and what the project states.

    Args:
        name: of the input.
        dims: sizes, and names of dims that the file does not fix.
        dtype: in the file.
        stated: the spec that the project states, if any.
        where: the file, for messages.

    Raises:
        InputSpecError: they contradict each other, or a dim is left open.
    """
    expected = f"{dtype}[{', '.join(map(str, dims))}]"
    if stated is None:
        if any(isinstance(dim, str) for dim in dims):
            sizes, flag = ", ".join(map(str, dims)), "x".join(map(str, dims))
            raise InputSpecError(
                f'input "{name}" is {expected}: the shape is not fixed',
                where=where,
                hint=f'state it: [[model.inputs]] name = "{name}", shape = [{sizes}], or --input {name}:{flag}',
            )
        return TensorSpec(name=name, shape=tuple(int(dim) for dim in dims), dtype=dtype)
    fits = len(stated.shape) == len(dims) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(dims, stated.shape, strict=True)
    )
    if not fits or stated.dtype != dtype:
        given = f"{stated.dtype}[{', '.join(map(str, stated.shape))}]"
        raise InputSpecError(f'input "{name}": stated {given}, the model expects {expected}', where=where)
    return stated
