"""The result of every reader: samples that are read in passes, as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import DataSpec, Preprocess
from edgec.toml_source import suggest

Row = Mapping[str, Array]
"""One sample as stored: model input name -> array, without preprocessing."""
LabelledRow = tuple[Row, Any]
"""A row and its label; None where the source has none, or has them as `SampleSource.labels`."""


@dataclass(frozen=True)
class SampleSource:
    """A set of samples that is read one after another; it holds none of them in memory.

    Attributes:
        rows: starts a new pass over all samples, in their order.
        count: number of samples, where that is known without a pass.
        labels: all labels, where they are known without a pass.
        ready: floats of this source are model input as they are (Python entries), so preprocessing is not for them.
        place: names sample i for messages, e.g. by its file.
        is_image: whether sample i is an image file, which ``[preprocess]`` may resize.
        steps: form of sample i as a file, and what reading did to it; empty for arrays.
        notes: what reading had to assume or leave out.
    """

    rows: Callable[[], Iterator[LabelledRow]]
    count: int | None = None
    labels: Array | None = None
    ready: bool = False
    place: Callable[[int], str] = "sample {}".format
    is_image: Callable[[int], bool] = lambda index: False
    steps: Callable[[int], tuple[str, ...]] = lambda index: ()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """Names of the classes that labels number, where the source has names."""


@dataclass(frozen=True)
class ReadRequest:
    """The data source to read, the model's inputs, and a scratch folder for arrays that cannot be streamed."""

    spec: DataSpec
    path: Path
    inputs: tuple[TensorSpec, ...]
    scratch: Path
    preprocess: Preprocess

    def only_input(self, kind: str) -> TensorSpec:
        """The model's one input; raises DatasetError when it has several, which `kind` cannot feed."""
        if len(self.inputs) != 1:
            names = ", ".join(item.name for item in self.inputs)
            raise DatasetError(
                f"{kind} feeds one input, but the model has {len(self.inputs)}: {names}",
                where=str(self.path),
                hint="use an .npz with one array for each input, or a Python entry file.py:function",
            )
        return self.inputs[0]


def missing(path: Path) -> DatasetError:
    """The error for a data path that does not exist, with the nearest name in its folder."""
    near = suggest(path.name, (item.name for item in path.parent.iterdir())) if path.parent.is_dir() else ""
    return DatasetError("no such file or folder", where=str(path), hint=near)


def check_counts(counts: Mapping[str, int], where: str) -> int:
    """The number of samples of all arrays; raises DatasetError where it differs."""
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DatasetError(f"arrays have different numbers of samples ({listed})", where=where)
    return next(iter(counts.values()))


def check_dtype(array_name: str, dtype: Any, path: Path) -> None:
    """Raise DatasetError unless arrays of `dtype` hold plain numbers or booleans.

    Args:
        array_name: for the message.
        dtype: NumPy's.
        path: of the file, for the message.
    """
    if dtype.hasobject:
        raise DatasetError(
            f'array "{array_name}" holds pickled objects, which edgec does not load',
            where=str(path),
            hint="save plain numeric arrays: np.savez(path, x=np.stack(samples))",
        )
    if dtype.kind not in "biuf":
        raise DatasetError(f'array "{array_name}" has dtype {dtype}; expected numbers', where=str(path))
