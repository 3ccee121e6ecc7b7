"""The reader of a data source, chosen by its name and by what is on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.dataset.arrays import read_npy, read_npz
from edgec.dataset.entry import python_entry
from edgec.dataset.folder import read_folder
from edgec.dataset.python import read_python
from edgec.dataset.sample_source import ReadRequest, SampleSource, missing
from edgec.errors import DatasetError
from edgec.model.spec import TensorSpec
from edgec.project.load import split_entry
from edgec.project.spec import DataSpec, Preprocess


@contextmanager
def open_samples(
    spec: DataSpec,
    preprocess: Preprocess,
    inputs: tuple[TensorSpec, ...],
    root: Path,
    scratch: Path,
    *,
    seed: int,
) -> Iterator[SampleSource]:
    """The samples that `spec` names, relative to `root`; readable while the context is open.

    Args:
        spec: the data source as the project states it.
        preprocess: how image files are brought to the inputs' size and colours.
        inputs: what the samples will feed.
        root: folder that paths are relative to.
        scratch: folder for arrays that cannot be streamed from where they are.
        seed: random seed of a Python entry.

    Raises:
        DatasetError: it is missing, unreadable or of an unknown kind.
    """
    path = root / spec.data
    request = ReadRequest(spec, path, inputs, scratch, preprocess)
    if split_entry(spec.data):
        if spec.labels or spec.inputs:
            raise DatasetError(
                "a Python entry gives labels and input names itself; drop the keys labels and inputs", where=spec.data
            )
        with python_entry(spec.data, root, DatasetError, seed=seed) as function:
            yield read_python(request, function)
        return
    if not path.exists():
        raise missing(path)
    if path.is_dir():
        yield read_folder(request)
    elif path.suffix == ".npz":
        yield read_npz(request)
    elif path.suffix == ".npy":
        yield read_npy(request)
    elif path.suffix == ".py":
        raise DatasetError("a Python file needs a function", where=spec.data, hint=f'data = "{spec.data}:FUNCTION"')
    else:
        raise DatasetError(
            "edgec cannot read this as data",
            where=str(path),
            hint="data is an .npz or .npy file, a folder of images, or a Python entry file.py:function",
        )
