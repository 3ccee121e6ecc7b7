"""Inputs, calling convention and dtypes of torch.export programs and TorchScript files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from edgec.errors import InputSpecError, ModelError
from edgec.model.onnx_inputs import merge
from edgec.model.spec import TensorSpec
from edgec.model.trace import Call
from edgec.project.spec import DType

if TYPE_CHECKING:
    import torch


def exported_inputs(program: Any, stated: tuple[TensorSpec, ...], where: str) -> tuple[TensorSpec, ...]:
    """Input specs of an ExportedProgram, with `stated` ones for dims that are not fixed (a symbolic batch is 1).

    Args:
        program: a torch.export.ExportedProgram.
        stated: the project's inputs, in call order; may be empty.
        where: the file, for messages.

    Raises:
        InputSpecError: they contradict each other, or a dim is left open.
    """
    names = list(program.graph_signature.user_inputs)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    if stated and len(stated) != len(names):
        raise InputSpecError(f"{len(stated)} inputs are stated, the model has {len(names)}", where=where)
    specs = []
    for index, name in enumerate(names):
        value = values[name]
        dims: list[int | str] = [size if isinstance(size, int) else str(size) for size in value.shape]
        dtype = dtype_of(value.dtype, name, where)
        given = stated[index] if stated else None
        if given is None and dims and isinstance(dims[0], str):
            dims[0] = 1
        specs.append(merge(given.name if given else name, dims, dtype, given, where))
    return tuple(specs)


def call_of(program: Any, where: str) -> Call:
    """How an ExportedProgram is called: it keeps which of its example inputs were passed by name.

    Raises:
        ModelError: it takes containers of tensors.
    """
    args, kwargs = program.call_spec.in_spec.children()
    if any(not child.is_leaf() for part in (args, kwargs) for child in part.children()):
        raise ModelError("an input is a container of tensors", where=where, hint="export it with tensors as inputs")
    return Call(tuple(kwargs.context or ()))


def dtype_of(dtype: Any, name: str, where: str) -> DType:
    """A torch or NumPy dtype by edgec's name.

    Args:
        dtype: of a tensor.
        name: of the input, for the message.
        where: the file, for the message.

    Raises:
        InputSpecError: edgec does not feed it.
    """
    text = str(dtype).removeprefix("torch.")
    if text in get_args(DType):
        return text  # type: ignore[return-value]
    raise InputSpecError(f'input "{name}" is {text}, which edgec does not feed', where=where)


def refuse_other_floats(module: torch.nn.Module, where: str) -> None:
    """Raises ModelError when a parameter is of a float dtype other than float32."""
    import torch

    for name, item in module.named_parameters():
        if item.is_floating_point() and item.dtype != torch.float32:
            dtype = str(item.dtype).removeprefix("torch.")
            raise ModelError(f"parameter {name} is {dtype}", where=where, hint="export the model in float32")
