"""Differences of two bundles: files, tensors of models, keys of JSON."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.interface import TensorReader
from edgec.backends.registry import get_backend
from edgec.bundle.manifest import MANIFEST, Manifest
from edgec.bundle.write import is_digested
from edgec.errors import printable

_SHOWN = 8
"""Names that are listed for one file; the others are counted."""
_MISSING = object()

Tensors = Callable[[Path], Mapping[str, str]]


@dataclass(frozen=True)
class FileDifference:
    """One file that two bundles do not have alike."""

    file: str
    what: str


def compare_bundles(first: Path, second: Path, manifest: Manifest) -> tuple[int, tuple[FileDifference, ...]]:
    """Number of files that must be alike, and those that are not; models first, the manifest last.

    Args:
        first: folder of a bundle.
        second: folder of another one.
        manifest: of `first`.
    """
    readers: dict[str, Tensors] = {}
    for item in manifest.artifacts:
        backend = get_backend(item.artifact.backend)
        if isinstance(backend, TensorReader):
            readers[item.artifact.file] = backend.tensors
    names = sorted(_files(first) | _files(second), key=lambda name: (name == MANIFEST, name not in readers, name))
    different = [FileDifference(name, what) for name in names if (what := _difference(name, first, second, readers))]
    return len(names), tuple(different)


def _files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in names if name == MANIFEST or is_digested(name)}


def _difference(name: str, first: Path, second: Path, readers: Mapping[str, Tensors]) -> str:
    """How a file differs; empty when it does not."""
    one, other = first / name, second / name
    if not one.is_file() or not other.is_file():
        return "only the first build has it" if one.is_file() else "only the second build has it"
    modes = [stat.S_IMODE(file.stat().st_mode) for file in (one, other)]
    if one.read_bytes() == other.read_bytes():
        return "" if modes[0] == modes[1] else f"mode {modes[0]:o}, and {modes[1]:o} in the second build"
    if name in readers:
        return _listed("tensor", readers[name](one), readers[name](other)) or "no tensor: the graph, or names in it"
    if name == MANIFEST:
        keys = _listed("key", *map(_own_keys, (one, other)))
        return keys or "only digests of the files above"
    if one.suffix == ".json":
        return _listed("key", *(dict(_keys(json.loads(file.read_bytes()))) for file in (one, other)))
    if one.suffix == ".npz":
        return _listed("array", *map(_arrays, (one, other)))
    return "its bytes"


def _listed(kind: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """``3 of 9 tensors: a, b, c``; empty when all are equal."""
    names = list(dict.fromkeys((*first, *second)))
    different = [name for name in names if first.get(name, _MISSING) != second.get(name, _MISSING)]
    if not different:
        return ""
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return f"{len(different)} of {len(names)} {kind}s: {printable(', '.join(different[:_SHOWN]))}{more}"


def _own_keys(manifest: Path) -> dict[str, Any]:
    """Keys of a manifest without the digests of other files, which are compared themselves."""
    content = json.loads(manifest.read_bytes())
    del content["files"]
    for item in content["artifacts"]:
        del item["sha256"], item["size"]
    return dict(_keys(content))


def _keys(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value of each leaf of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _keys(item, f"{above}.{key}" if above else str(key))
    if not isinstance(value, (dict, list)) or not value:
        yield above, value


def _arrays(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
