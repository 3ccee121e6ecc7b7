"""The constants of a TorchScript file, for comparisons of two files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tensors(file: Path) -> Mapping[str, str]:
    """Names of a state_dict where the file has one, and records with constants of a frozen graph -> SHA-256."""
    import torch

    loaded: Any = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    state = {name: _digest(tensor) for name, tensor in loaded.state_dict().items()}
    reader = torch._C.PyTorchFileReader(str(file))
    records = {
        name: hashlib.sha256(reader.get_record(name)).hexdigest()
        for name in reader.get_all_records()
        if name.startswith("constants/") or (not state and name.startswith("data/"))
    }
    return state | records


def _digest(tensor: Any) -> str:
    import torch

    flat = tensor.detach().contiguous()
    described = f"{flat.dtype} {tuple(flat.shape)} ".encode()
    return hashlib.sha256(described + flat.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
