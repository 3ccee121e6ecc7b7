"""A pruned model on disk between builds: tensors as safetensors and sizes of layers as JSON; reading runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.model.spec import FloatModel

if TYPE_CHECKING:
    from torch import nn

_TENSORS, _SIZES = "tensors.safetensors", "sizes.json"


def save_pruned(model: FloatModel, folder: Path) -> None:
    """Write the tensors and the sizes of a pruned model's layers to `folder`."""
    from safetensors.torch import save_file

    assert model.graph is not None, "only graphs are pruned"
    save_file({name: value.clone() for name, value in model.graph.state_dict().items()}, folder / _TENSORS)
    sizes = {name: _sizes(module) for name, module in model.graph.named_modules()}
    (folder / _SIZES).write_text(json.dumps(sizes, indent=1))


def load_pruned(whole: FloatModel, folder: Path) -> FloatModel:
    """The pruned model that `save_pruned` wrote: the layers of `whole` with other sizes and tensors.

    Args:
        whole: the model before pruning.
        folder: its files may be damaged: compare the result's fingerprint with the recorded one.

    Raises:
        OSError, ValueError, KeyError, AttributeError, SafetensorError: the files do not belong to this model.
    """
    from safetensors.torch import load_file
    from torch import nn

    from edgec.passes.graph_edit import own_graph

    graph = own_graph(whole)
    for name, sizes in json.loads((folder / _SIZES).read_text()).items():
        layer = graph.get_submodule(name)
        for attribute, size in sizes.items():
            if attribute in _sizes(layer):
                setattr(layer, attribute, tuple(size) if isinstance(size, list) else size)
    for name, value in load_file(folder / _TENSORS).items():
        path, _, attribute = name.rpartition(".")
        layer = graph.get_submodule(path)
        is_buffer = attribute in dict(layer.named_buffers(recurse=False))
        setattr(layer, attribute, value if is_buffer else nn.Parameter(value, requires_grad=False))
    return whole.with_graph(graph.eval(), same_function=False)


def _sizes(module: nn.Module) -> dict[str, Any]:
    """Its whole numbers, and tuples of them: ``in_channels``, ``groups``, ``normalized_shape``."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (type(value) is int or (isinstance(value, tuple) and all(type(size) is int for size in value)))
    }
