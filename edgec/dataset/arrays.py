"""Readers of .npz and .npy files. Rows are streamed: an array is never loaded whole, also when it is compressed."""

from __future__ import annotations

import io
import math
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgec.dataset.sample_source import LabelledRow, ReadRequest, SampleSource, check_counts, check_dtype, missing
from edgec.errors import DatasetError, StorageError
from edgec.model.spec import Array
from edgec.storage.files import storage_errors
from edgec.toml_source import suggest

_LONGEST_HEADER = 1 << 16
"""Bytes of a header at most."""
_HEADERS: Mapping[tuple[int, int], Callable[[IO[bytes]], tuple[Any, Any, Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""numpy's readers by the version of the format."""
LABEL_NAMES = ("y", "labels")
"""Arrays of an npz that are labels when the user names none."""


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int = 0
    """Bytes before the array's own."""

    @property
    def size(self) -> int:
        """Bytes of the array's own."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(request: ReadRequest) -> SampleSource:
    """Samples in the arrays of an .npz, one row each; labels from ``labels``, ``y`` or a .npy file."""
    path = request.path
    with _readable(path), zipfile.ZipFile(path) as archive:
        headers: dict[str, _Header] = {}
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    headers[member.filename.removesuffix(".npy")] = _read_header(stream, member)
    labels = _npz_labels(request, headers)
    arrays = _assign(request, headers, exclude=labels if isinstance(labels, str) else None)
    for name in set(arrays.values()):
        check_dtype(name, headers[name].dtype, path)
    count = check_counts({name: _count(name, headers[name], path) for name in arrays.values()}, str(path))
    if isinstance(labels, str):
        _check_labels(labels, headers[labels].dtype, headers[labels].shape, count, path)
    columns = {name for name in arrays.values() if headers[name].fortran}
    with storage_errors(request.scratch):
        free = shutil.disk_usage(request.scratch).free
    if (needed := sum(headers[name].size for name in columns)) > free:
        what = f"arrays in column order take {needed} bytes, and {free} are free"
        hint = f"free some space, or save those of {path.name} in row order"
        raise StorageError(what, where=str(request.scratch), hint=hint)
    with _readable(path), zipfile.ZipFile(path) as archive:
        extracted = {  # column order: a row is spread over the whole member
            name: archive.extract(f"{name}.npy", request.scratch) for name in columns
        }

    def rows() -> Iterator[LabelledRow]:
        with ExitStack() as stack:
            stack.enter_context(_readable(path))
            archive = stack.enter_context(zipfile.ZipFile(path))
            streams: dict[str, Iterator[Array]] = {}
            for model_input, name in arrays.items():
                if name in extracted:
                    streams[model_input] = iter(np.load(extracted[name], mmap_mode="r"))
                else:
                    streams[model_input] = _stream(
                        stack.enter_context(archive.open(f"{name}.npy")), headers[name], path
                    )
            for values in zip(*streams.values(), strict=True):
                yield dict(zip(streams, values, strict=True)), None

    used = ", ".join(f'{key} <- "{name}"' for key, name in arrays.items())
    return SampleSource(rows, count, _load_labels(request, labels, count), notes=(f"inputs: {used}",))


def read_npy(request: ReadRequest) -> SampleSource:
    """Samples in one .npy, memory-mapped; labels from another .npy."""
    only = request.only_input("an .npy file")
    path = request.path
    with _readable(path):
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    check_dtype(path.name, array.dtype, path)
    count = _count(path.name, _Header(array.shape, False, array.dtype), path)
    labels = request.spec.labels
    if labels is not None and not labels.endswith(".npy"):
        raise DatasetError(
            f'labels "{labels}" is not an .npy file', where=str(path), hint="labels of an .npy are an .npy"
        )

    def rows() -> Iterator[LabelledRow]:
        for row in array:
            yield {only.name: row}, None

    return SampleSource(rows, count, _load_labels(request, path.parent / labels if labels else None, count))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise missing(path) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        raise DatasetError(f"is damaged or not a NumPy file: {exc}", where=str(path)) from exc
    except (ValueError, RuntimeError) as exc:  # numpy: not an .npy, or pickled; zipfile: encrypted
        raise DatasetError(f"cannot be read: {exc}", where=str(path)) from exc
    except OSError as exc:
        raise DatasetError(f"cannot be read: {exc.strerror or exc}", where=str(path)) from exc


def _read_header(stream: IO[bytes], member: zipfile.ZipInfo) -> _Header:
    """The header of a member, which must describe the bytes that the archive says it has: no more can be read of it."""
    beginning = io.BytesIO(stream.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(beginning)  # type: ignore[no-untyped-call]
    if version not in _HEADERS:
        return _Header((), False, np.dtype(object))  # 3.0 is for structured dtypes with non-Latin field names
    header = _Header(*_HEADERS[version](beginning), beginning.tell())
    if header.dtype.hasobject:
        return header  # its bytes are a pickle: `check_dtype` refuses it
    if any(size < 0 for size in header.shape):
        raise ValueError(f'array "{member.filename}" has the shape {header.shape}')
    if header.offset + header.size != member.file_size:
        there = member.file_size - header.offset
        what = f'array "{member.filename}" of shape {header.shape} takes {header.size} bytes, and has {there}'
        raise ValueError(what)
    return header


def _stream(stream: IO[bytes], header: _Header, path: Path) -> Iterator[Array]:
    stream.read(header.offset)
    row_shape = header.shape[1:]
    size = math.prod(row_shape) * header.dtype.itemsize
    for index in range(header.shape[0]):
        data = stream.read(size)
        if len(data) != size:
            raise DatasetError(f"ends in the middle of sample {index}", where=str(path))
        yield np.frombuffer(data, header.dtype).reshape(row_shape)


def _count(name: str, header: _Header, path: Path) -> int:
    if not header.shape:
        raise DatasetError(f'array "{name}" has no sample axis', where=str(path))
    return header.shape[0]


def _npz_labels(request: ReadRequest, headers: dict[str, _Header]) -> str | Path | None:
    stated = request.spec.labels
    if stated is None:
        inputs = {item.name for item in request.inputs} | set(request.spec.inputs.values())
        return next((name for name in LABEL_NAMES if name in headers and name not in inputs), None)
    if stated in headers:
        return stated
    if stated.endswith(".npy"):
        return request.path.parent / stated
    raise DatasetError(
        f'has no array "{stated}" for the labels',
        where=str(request.path),
        hint=suggest(stated, headers) or f"arrays: {', '.join(headers)}",
    )


def _load_labels(request: ReadRequest, labels: str | Path | None, count: int) -> Array | None:
    if labels is None:
        return None
    path = request.path if isinstance(labels, str) else labels
    name = labels if isinstance(labels, str) else labels.name
    with _readable(path):
        if isinstance(labels, str):
            with np.load(request.path, allow_pickle=False) as archive:
                loaded: Array = archive[labels]
        else:
            loaded = np.array(np.load(labels, mmap_mode="r", allow_pickle=False))  # no more than there is
    _check_labels(name, loaded.dtype, loaded.shape, count, path)
    return loaded


def _check_labels(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, path: Path) -> None:
    check_dtype(name, dtype, path)
    if shape[:1] != (count,):
        raise DatasetError(f'labels "{name}" have shape {shape}, but there are {count} samples', where=str(path))


def _assign(request: ReadRequest, headers: dict[str, _Header], exclude: str | None) -> dict[str, str]:
    """Model input -> array that feeds it: as stated, else by the same name, else the only candidate."""
    stated, path = request.spec.inputs, request.path
    known = [item.name for item in request.inputs]
    for name in stated:
        if name not in known:
            hint = suggest(name, known) or f"inputs: {', '.join(known)}"
            raise DatasetError(f'inputs: the model has no input "{name}"', where=str(path), hint=hint)
    candidates = [name for name, header in headers.items() if name != exclude and header.dtype.kind in "biuf"]
    assigned: dict[str, str] = {}
    for name in known:
        array = stated.get(name, name)
        if array in headers:
            assigned[name] = array
        elif name in stated:
            hint = suggest(array, headers) or f"arrays: {', '.join(headers)}"
            raise DatasetError(f'has no array "{array}" for input "{name}"', where=str(path), hint=hint)
        elif len(known) == 1 and "x" in candidates:
            assigned[name] = "x"
        elif len(known) == 1 and len(candidates) == 1:
            assigned[name] = candidates[0]
        else:
            raise DatasetError(
                f'has no array for input "{name}" (arrays: {", ".join(headers) or "none"})',
                where=str(path),
                hint=f'name the arrays as the inputs, or state inputs = {{ "{name}" = "ARRAY" }}',
            )
    return assigned
