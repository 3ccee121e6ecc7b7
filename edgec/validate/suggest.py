"""Chooses new samples that leave calibrated ranges, and writes them for ``[calibration] more``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.dataset.open_samples import open_samples
from edgec.dataset.sample_source import Row
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import DatasetError
from edgec.project.spec import DataSpec
from edgec.storage.files import storage_errors, write_atomically
from edgec.storage.temporary import private_folder
from edgec.validate.drift import Observed
from edgec.validate.samples import SEED
from edgec.validate.sides import Side

_START = 0.1
"""Initial coverage of each range, as a share of what one sample can add to it."""


def choose(observed: Sequence[Observed], most: int) -> tuple[int, ...]:
    """Samples to calibrate with, those that add most first; their places in the spool.

    The worth of a range is the logarithm of what the chosen samples show beyond it, so that ranges which few samples
    leave are covered before more of the same are chosen. Samples that leave no range are not chosen.

    Args:
        observed: the artifacts, observed on the same samples.
        most: how many to choose.
    """
    known = [item for item in observed if item.shares is not None and item.shares.size]
    if not known:
        return ()
    shares = np.concatenate([item.shares for item in known if item.shares is not None], axis=1)
    largest = shares.max(axis=0)
    gains = shares[:, largest > 0] / largest[largest > 0]
    covered, chosen = np.full(gains.shape[1], _START), list[int]()
    open_ = gains.any(axis=1)
    while len(chosen) < most and open_.any():
        worth = np.where(open_, np.log1p(gains / covered).sum(axis=1), -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        covered, open_[best] = covered + gains[best], False
    return tuple(known[0].indices[place] for place in chosen)


def write_samples(file: Path, chosen: Sequence[int], spec: DataSpec, side: Side, spool: Spool, scratch: Path) -> None:
    """Write samples as they are stored in the data, so that the project's preprocessing makes the same inputs of them.

    The samples are read back before the file is put in place.

    Args:
        file: the .npz to write.
        chosen: places in the spool.
        spec: the data.
        side: the bundle whose preprocessing is used.
        spool: its samples.
        scratch: private folder; exists.

    Raises:
        DatasetError: the samples would not be read back as the same inputs.
        StorageError: the file cannot be written.
    """
    group, indices = spool.info.group, spool.source_indices()
    entries = [run * group + entry for run in sorted(chosen) for entry in range(group)]
    rows = _rows(spec, side, [int(indices[entry]) for entry in entries], scratch)
    try:
        arrays = {item.name: np.stack([row[item.name] for row in rows]) for item in side.inputs}
    except ValueError as exc:
        raise _unstorable("they have different shapes", spec) from exc
    if spool.labels is not None and "y" not in arrays:
        arrays["y"] = spool.labels[entries]
    with storage_errors(file), private_folder(scratch) as folder:
        written = Path(folder, "samples.npz")
        with zipfile.ZipFile(written, "w") as archive:  # numpy.savez refuses an array with the name "file"
            for array_name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{array_name}.npy"), "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)  # type: ignore[no-untyped-call]
        _check(written, entries, side, spool, Path(folder), spec)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, written.read_bytes())


def _rows(spec: DataSpec, side: Side, wanted: Sequence[int], scratch: Path) -> list[Row]:
    rows: dict[int, Row] = {}
    with open_samples(spec, side.preprocess, side.inputs, Path(), scratch, seed=SEED) as source:
        for index, (row, _) in enumerate(source.rows()):
            if index in wanted:
                rows[index] = {name: np.array(value) for name, value in row.items()}
            if len(rows) == len(set(wanted)):
                break
    return [rows[index] for index in wanted]


def _check(written: Path, entries: Sequence[int], side: Side, spool: Spool, folder: Path, spec: DataSpec) -> None:
    try:
        again = write_spool(
            DataSpec(data=str(written)), side.preprocess, side.inputs, folder / "again", Path(),
            samples=None, seed=SEED, what="evaluation",
        )  # fmt: skip
    except DatasetError as error:
        raise _unstorable(error.what, spec) from error
    before = spool.sample_digests()
    if again.sample_digests() != [before[entry] for entry in entries]:
        raise _unstorable("preprocessing would make different inputs of them", spec)


def _unstorable(why: str, spec: DataSpec) -> DatasetError:
    return DatasetError(
        f"the suggested samples cannot be stored in an .npz: {why}",
        where=spec.data,
        hint="the JSON (--json) lists the samples that differ most; add them to the calibration data as it is stored",
    )
