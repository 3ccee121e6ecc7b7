"""Training's state after each epoch, on disk, so that a killed build goes on where it was."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from edgec.errors import StorageError
from edgec.storage.temporary import private_folder


class Checkpoint:
    """One file, replaced as a whole; `key` names everything that the state follows from.

    Args:
        folder: kept between builds; made if missing.
        key: digest of model, data, options, seed and versions.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._file = folder / f"{key}.pt"

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last; None if there is none, or it cannot be read."""
        import torch

        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state by another: tensors, numbers and texts.

        Raises:
            StorageError: the disk is full or refuses the write.
        """
        import torch

        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with private_folder(self._file.parent, f".{self._file.stem}-") as folder:
                partial = folder / self._file.name
                with partial.open("wb") as file:
                    torch.save(state, file)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self._file)
        except (OSError, RuntimeError) as exc:
            hint = "free some disk space"
            raise StorageError(f"cannot write a checkpoint: {exc}", where=str(self._file), hint=hint) from exc
