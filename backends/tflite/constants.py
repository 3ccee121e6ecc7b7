"""The constants of a TFLite file, for comparisons of two files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from edgec.backends.tflite.flatbuffer import indices, is_constant, names_of, text, unpack


def tensors(file: Path) -> Mapping[str, str]:
    """Name of each tensor with a value -> SHA-256 of its type, shape, grid and buffer."""
    model = unpack(file.read_bytes())
    digests = {}
    for number, graph in enumerate(model.subgraphs):
        for tensor in graph.tensors:
            if not is_constant(model, tensor):
                continue
            grid = tensor.quantization
            described = [names_of("TensorType")[tensor.type], indices(tensor.shape)]
            if grid is not None:
                described += [list(map(float, () if grid.scale is None else grid.scale)), indices(grid.zeroPoint)]
            digest = hashlib.sha256(repr(described).encode())
            digest.update(bytes(model.buffers[tensor.buffer].data))
            digests[(f"subgraph {number}: " if number else "") + text(tensor.name)] = digest.hexdigest()
    return digests
