"""Models that take several samples in one run: their first axis is fixed at more than one.

Data for them is stored in one of two ways, which differ in the shape of an entry: entries of the full shape are runs as
they are; entries of the shape behind the first axis are single samples, of which each run takes the next few.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgec.dataset.preprocess import fits
from edgec.dataset.sample_source import Row
from edgec.errors import DatasetError
from edgec.model.spec import TensorSpec


@dataclass(frozen=True)
class Grouping:
    """How entries of the data become runs of the model."""

    size: int
    """Entries of the data in one run."""
    entries: tuple[TensorSpec, ...]
    """Specs of one entry: the model's inputs, with a first axis of 1 where several entries make a run."""


def grouping_of(row: Row, inputs: tuple[TensorSpec, ...], origin: str) -> Grouping:
    """The grouping of the data, by the shapes of its first entry.

    Args:
        row: the entry.
        inputs: what the model takes.
        origin: the data source, for messages.

    Raises:
        DatasetError: some inputs of the entry are single samples, and others are not.
    """
    as_is = Grouping(1, inputs)
    sizes = {item.shape[0] if len(item.shape) > 1 else 1 for item in inputs}
    if all(fits(row[item.name].shape, item.shape) for item in inputs) or max(sizes, default=1) == 1:
        return as_is
    entries = tuple(
        item.model_copy(update={"shape": (1, *item.shape[1:])}) if len(item.shape) > 0 else item for item in inputs
    )
    single = [item.name for item in entries if fits(row[item.name].shape, item.shape)]
    if not single:
        return as_is  # which is then refused with the shapes
    size = inputs[0].shape[0] if inputs[0].shape else 1
    if len(single) < len(inputs) or any(item.shape[:1] != (size,) for item in inputs):
        shapes = "; ".join(
            f'"{item.name}" takes {list(item.shape)}, and is {list(row[item.name].shape)}' for item in inputs
        )
        raise DatasetError(
            f"some inputs are given as single samples, and others are not: {shapes}",
            where=origin,
            hint="give every entry of each input in the full shape that the model takes",
        )
    return Grouping(size, entries)
