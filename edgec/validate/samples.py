"""The new samples, as each bundle's own preprocessing makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgec.dataset.open_samples import open_samples
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import LabelsError
from edgec.frozen import digest_json
from edgec.model.spec import Array
from edgec.project.load import split_entry
from edgec.project.spec import DataSpec
from edgec.validate.sides import Side

SEED = 0
"""Of the choice of samples, and of a Python entry's random numbers."""


@dataclass
class Samples:
    """Samples by the bundle that they are for; bundles with the same preprocessing share them.

    Args:
        spec: the data source in the user's words, relative to the current folder.
        most: take at most this many, balanced by class; None: all.
        folder: private folder to lay them down in.
    """

    spec: DataSpec
    most: int | None
    folder: Path
    _spools: dict[str, Spool] = field(default_factory=dict)

    def of(self, side: Side) -> Spool:
        """The samples for one bundle, in the order of the data, with labels that number its classes.

        Raises:
            DatasetError: the data is missing, empty, not finite, or does not fit the model.
            LabelsError: it has a class that the bundle does not know.
        """
        key = digest_json([side.preprocess.plain(), [item.plain() for item in side.inputs], side.classes])[:16]
        if key not in self._spools:
            spool = write_spool(
                self.spec, side.preprocess, side.inputs, self.folder / key, Path(),
                samples=self.most, seed=SEED, what="evaluation",
            )  # fmt: skip
            spool.labels = _renumbered(spool, side.classes)
            self._spools[key] = spool
        return self._spools[key]

    def places(self, side: Side) -> list[str]:
        """What to call each entry of the data: its file, where it has one of its own, else nothing."""
        indices = self.of(side).source_indices()
        path = Path(self.spec.data)
        if split_entry(self.spec.data) or not path.is_dir():
            return [""] * len(indices)
        with open_samples(self.spec, side.preprocess, side.inputs, Path(), self.folder, seed=SEED) as source:
            files = [Path(source.place(int(index))) for index in indices]
        return [file.relative_to(path).as_posix() for file in files]


def _renumbered(spool: Spool, classes: tuple[str, ...]) -> Array | None:
    """The labels of class folders, by the numbers that the bundle's evaluation set gives their names."""
    named = spool.info.classes
    if spool.labels is None or not named or not classes or named == classes:
        return spool.labels
    if unknown := [name for name in named if name not in classes]:
        raise LabelsError(
            f"the bundle knows no class {', '.join(unknown)}",
            where=spool.info.origin,
            hint=f"classes: {', '.join(classes)}; without class folders, or with labels stated, samples have no names",
        )
    table = np.array([classes.index(name) for name in named], np.int64)
    renumbered: Array = table[spool.labels]
    return renumbered
