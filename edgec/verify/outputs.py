"""Outputs of all samples on disk: one .npy of shape ``(samples, *output shape)`` for each output, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors

Outputs = Mapping[str, Array]
"""Output name -> ``(samples, *output shape)``; the output shape has its batch axis."""

_CHUNK_BYTES = 16 << 20


class OutputWriter:
    """Lays down the outputs of one sample after another; shapes and dtypes are those of the first sample."""

    def __init__(self, folder: Path, samples: int) -> None:
        self._folder = folder
        self._samples = samples
        self._maps: dict[str, np.memmap[tuple[int, ...], np.dtype[np.generic]]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, index: int, outputs: Tensors) -> None:
        """Store the outputs of sample `index`.

        Raises:
            UnsupportedError: an output's shape or dtype differs from that of the first sample.
        """
        if not self._maps:
            for k, (name, array) in enumerate(outputs.items()):  # numbered: names may hold slashes
                self._maps[name] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                    self._folder / f"{k}.npy", "w+", array.dtype, (self._samples, *array.shape)
                )
        if set(outputs) != set(self._maps):
            raise UnsupportedError(
                f"sample {index} has outputs {', '.join(outputs)}; earlier ones {', '.join(self._maps)}"
            )
        for name, array in outputs.items():
            wanted = self._maps[name]
            if array.shape != wanted.shape[1:] or array.dtype != wanted.dtype:
                raise UnsupportedError(
                    f'output "{name}" of sample {index} is {array.dtype} {list(array.shape)}, '
                    f"of the first sample {wanted.dtype} {list(wanted.shape[1:])}",
                    hint="outputs whose shape depends on the data cannot be compared; end the model before that step",
                )
            wanted[index] = array

    def close(self) -> dict[str, str]:
        """Flush; returns output name -> file."""
        files = {name: str(self._folder / f"{k}.npy") for k, name in enumerate(self._maps)}
        for array in self._maps.values():
            array.flush()
        self._maps.clear()
        return files


def open_outputs(files: Mapping[str, str]) -> dict[str, Array]:
    """Outputs by name, memory-mapped, from what `OutputWriter.close` returned."""
    return {name: np.load(file, mmap_mode="r") for name, file in files.items()}


def by_entry(outputs: Outputs, group: int) -> Outputs:
    """The outputs with what a run gives for `group` entries of the data taken apart: (runs * group, 1, ...)."""
    if group == 1:
        return outputs
    return {name: array.reshape(len(array) * group, 1, *array.shape[2:]) for name, array in outputs.items()}


def chunks(array: Array) -> Iterator[slice]:
    """Slices over the first axis of `array`, each of some megabytes."""
    row = max(1, array.nbytes // max(1, len(array)))
    step = max(1, _CHUNK_BYTES // row)
    return (slice(start, start + step) for start in range(0, len(array), step))


def first_output(outputs: Outputs) -> Array:
    """The first output in the model's order."""
    return next(iter(outputs.values()))
