"""A digest over what a float model computes: structure, constants, and its ONNX file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import EdgecError
from edgec.frozen import canonical_json
from edgec.model.spec import FloatModel
from edgec.storage.temporary import private_folder

if TYPE_CHECKING:
    import torch
    from torch import fx


def fingerprint(model: FloatModel) -> str:
    """SHA-256 (hex): equal for equal content, in whatever process and wherever the files are."""
    digest = hashlib.sha256()
    for spec in (*model.inputs, *model.outputs):
        digest.update(canonical_json(spec.model_dump(mode="json")).encode())
    if model.graph is not None:
        graph_digest(model.graph, digest.update)
    elif model.onnx is None:
        _update_by_export(model, digest.update)
    if model.onnx is not None:
        _update_by_file(model.onnx, digest.update)
    return digest.hexdigest()


def graph_digest(graph: fx.GraphModule, update: Callable[[bytes], None]) -> None:
    """Feed structure, module options and constants of an FX graph; names of nodes do not matter."""
    numbers: dict[fx.Node, int] = {}
    attributes: set[str] = set()
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            attributes.add(str(node.target))  # where it is fetched does not matter, see _spelt
            continue
        numbers[node] = len(numbers)
        target = node.target if isinstance(node.target, str) else _spelt(node.target, numbers)
        target = "" if node.op == "placeholder" else target
        update(f"{node.op} {target} {_spelt(node.args, numbers)} {_spelt(node.kwargs, numbers)}\n".encode())
        if node.op == "call_module":
            _update_by_module(graph.get_submodule(str(node.target)), update)
    for name in sorted(attributes):
        _update_by_tensor(name, attrgetter(name)(graph), update)


def _spelt(value: Any, numbers: dict[fx.Node, int]) -> str:
    from torch import fx

    if isinstance(value, fx.Node):
        return f"attr:{value.target}" if value.op == "get_attr" else f"%{numbers[value]}"
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(_spelt(item, numbers) for item in value) + ")"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_spelt(item, numbers)}" for key, item in sorted(value.items())) + "}"
    if isinstance(value, slice):
        return f"slice{_spelt((value.start, value.stop, value.step), numbers)}"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)


def _update_by_module(module: torch.nn.Module, update: Callable[[bytes], None]) -> None:
    for name, part in module.named_modules():
        options = {key: _option(item) for key, item in vars(part).items() if not key.startswith("_")}
        update(f"{name} {type(part).__module__}.{type(part).__qualname__} {sorted(options.items())}\n".encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        _update_by_tensor(name, tensor, update)


def _option(value: Any) -> str:
    import torch

    if isinstance(value, (bool, int, float, str, type(None), torch.dtype)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(map(_option, value)) + ")"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _update_by_tensor(name: str, tensor: torch.Tensor, update: Callable[[bytes], None]) -> None:
    import torch

    flat = tensor.detach().cpu().contiguous()
    update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
    update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())


def _update_by_export(model: FloatModel, update: Callable[[bytes], None]) -> None:
    """A model without a graph is known by its ONNX export: that is what `edgec.model.store` hands on."""
    from edgec.model.export_onnx import export_onnx

    try:
        with private_folder() as folder:
            _update_by_file(export_onnx(model, Path(folder) / "model.onnx"), update)
    except EdgecError:
        assert model.module is not None
        update(canonical_json(model.source.model_dump(mode="json")).encode())
        for name, tensor in sorted(model.module.state_dict().items()):
            _update_by_tensor(name, tensor, update)


def _update_by_file(path: Path, update: Callable[[bytes], None]) -> None:
    import onnx

    from edgec.model.onnx_file import external_files

    content = path.read_bytes()
    update(hashlib.sha256(content).digest())
    for name in external_files(onnx.load(path, load_external_data=False)):
        with (path.parent / name).open("rb") as file:
            update(hashlib.file_digest(file, "sha256").digest())
