"""Samples on disk, ready to feed: how calibration and evaluation data reach passes and worker processes.

A spool is a private folder of the build: ``<k>.npy`` for the k-th model input, of shape ``(samples, *input shape)``
(the input shape has its batch axis), ``digests.npy`` and ``indices.npy`` (each sample's SHA-256, and its place in
the source), an optional ``labels.npy``, and ``spool.json``, written last. Arrays are memory-mapped, so memory does
not grow with the number of samples. `edgec.dataset.write` makes one.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgec.frozen import Frozen, canonical_json
from edgec.model.spec import Array, TensorSpec
from edgec.storage.temporary import private_folder


class SpoolInfo(Frozen):
    """The index of a spool (``spool.json``)."""

    inputs: tuple[TensorSpec, ...]
    samples: int
    has_labels: bool
    content_digest: str
    """SHA-256 over the input specs, and all samples' digests and labels, in order."""
    origin: str
    """The data source as the user named it."""
    notes: tuple[str, ...] = ()
    """Assumptions, changes and omissions of reading, for the report."""
    classes: tuple[str, ...] = ()
    """Names of the classes that labels number, where the source has names."""
    group: int = 1
    """Entries of the source in one sample: more than 1 for a model that takes several at once. Digests, indices and
    labels are then of the entries."""
    first_sample: tuple[str, ...] = ()
    """The steps from the first stored sample to model input, a line for each input:
    ``48x64 RGB -> center crop 64x64 -> / 255 -> float32 [1,3,64,64], 0 to 1``. Image sizes are height x width."""


class Spool(Sequence[dict[str, Array]]):
    """Read access to a spool; sample i is a dict of input name -> array with batch axis."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = SpoolInfo.model_validate_json((folder / "spool.json").read_text())
        self._arrays: list[np.memmap[Any, Any]] = [
            np.load(folder / f"{k}.npy", mmap_mode="r") for k in range(len(self.info.inputs))
        ]
        self.labels: Array | None = np.load(folder / "labels.npy") if self.info.has_labels else None

    def __len__(self) -> int:
        return self.info.samples

    def __getitem__(self, index: int) -> dict[str, Array]:  # type: ignore[override]  # no slices: samples are streamed
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return {spec.name: _row(array, index) for spec, array in zip(self.info.inputs, self._arrays, strict=True)}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[index] for index in range(len(self)))

    def sample_digests(self) -> list[bytes]:
        """SHA-256 of each entry's input bytes, without its label."""
        return [row.tobytes() for row in np.load(self.folder / "digests.npy")]

    def source_indices(self) -> Array:
        """Where each entry of this spool stands in the user's data."""
        indices: Array = np.load(self.folder / "indices.npy")
        return indices


def _row(array: np.memmap[Any, Any], index: int) -> Array:
    """A sample, read from its file: pages that are mapped stay resident and would grow with the number of samples."""
    if not array.flags.c_contiguous:  # a sample is not in one place
        return np.array(array[index])
    row = array.shape[1:]
    size = math.prod(row)
    at = int(array.offset) + index % len(array) * size * array.itemsize
    assert array.filename is not None
    return np.fromfile(array.filename, array.dtype, size, offset=at).reshape(row)


def write_index(
    folder: Path,
    inputs: tuple[TensorSpec, ...],
    *,
    digests: Sequence[bytes],
    indices: Sequence[int],
    labels: Array | None,
    origin: str,
    notes: tuple[str, ...],
    classes: tuple[str, ...] = (),
    group: int = 1,
    first_sample: tuple[str, ...] = (),
) -> None:
    """Make a spool of a folder that holds ``<k>.npy`` for all inputs: everything else, ``spool.json`` last.

    Args:
        folder: of the spool.
        inputs: specs of the arrays, in order.
        digests: SHA-256 of each entry's input bytes.
        indices: place of each entry in the source.
        labels: [entries, ...]; None without labels.
        origin: the data source as the project names it.
        notes: what reading assumed, changed or left out.
        classes: names of the classes that labels number.
        group: entries in one sample.
        first_sample: steps of the first sample, a line for each input.
    """
    hashed = hashlib.sha256(canonical_json([item.model_dump(mode="json") for item in inputs]).encode())
    for digest in digests:
        hashed.update(digest)
    if labels is not None:
        hashed.update(f"{labels.dtype.str} {labels.shape}".encode() + labels.tobytes())
        np.save(folder / "labels.npy", labels)
    np.save(folder / "digests.npy", np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
    np.save(folder / "indices.npy", np.array(indices, np.int64))
    info = SpoolInfo(
        inputs=inputs,
        samples=len(digests) // group,
        has_labels=labels is not None,
        content_digest=hashed.hexdigest(),
        origin=origin,
        notes=notes,
        classes=classes,
        group=group,
        first_sample=first_sample,
    )
    (folder / "spool.json").write_text(info.model_dump_json(indent=1))


def copy_samples(
    sets: Sequence[Spool],
    order: Sequence[tuple[int, int]],
    folder: Path,
    *,
    notes: tuple[str, ...],
    first_sample: tuple[str, ...],
) -> None:
    """Make a spool of samples of other spools, which feed the same inputs; labels are kept when all of them have some.

    Args:
        sets: the other spools; the first one names origin and classes.
        order: (place in `sets`, sample) of each sample.
        folder: of the new spool; exists.
        notes, first_sample: as of `write_index`.
    """
    info = sets[0].info
    for place, item in enumerate(info.inputs):
        array = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{place}.npy", "w+", np.dtype(item.dtype), (len(order), *item.shape)
        )
        for row, (number, index) in enumerate(order):
            array[row] = sets[number][index][item.name]
        array.flush()
    starts = np.cumsum([0, *(len(item) for item in sets)]).tolist()
    runs = [starts[number] + index for number, index in order]
    entries = [run * info.group + entry for run in runs for entry in range(info.group)]
    digests = [digest for item in sets for digest in item.sample_digests()]
    indices = np.concatenate([item.source_indices() for item in sets]).tolist()
    labels = [item.labels for item in sets if item.labels is not None]
    alike = len(labels) == len(sets) and len({item.shape[1:] for item in labels}) == 1
    write_index(
        folder,
        info.inputs,
        digests=[digests[entry] for entry in entries],
        indices=[indices[entry] for entry in entries],
        labels=np.concatenate(labels)[entries] if alike else None,
        origin=info.origin,
        notes=notes,
        classes=info.classes,
        group=info.group,
        first_sample=first_sample,
    )


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A private folder to write to, which takes the place of `folder` at the end."""
    with private_folder(folder.parent, f".{folder.name}-") as scratch:
        partial = scratch / "spool"
        partial.mkdir()
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
