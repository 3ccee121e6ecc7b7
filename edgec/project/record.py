"""What bundles record of a project: settings and code, without absolute paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from edgec.frozen import canonical_json
from edgec.project.flags import PATH_KEYS
from edgec.project.imports import neighbours
from edgec.project.load import PROJECT_FILE, split_entry
from edgec.project.spec import Project
from edgec.storage.files import sha256_of


def recorded_path(path: str) -> str:
    """A path of the project (or ``file.py:function``) as bundles record it; only the last part of one outside it."""
    file, function = split_entry(path) or (path, "")
    plain = PurePath(os.path.normpath(file))
    shown = plain.name if plain.is_absolute() or plain.parts[:1] == ("..",) else plain.as_posix()
    return f"{shown}:{function}" if function else shown


def settings(project: Project) -> dict[str, Any]:
    """All keys as they were resolved, as JSON values, but ``build.out`` and ``build.targets``."""
    values: dict[str, Any] = project.plain()
    for key in ("out", "targets"):
        del values["build"][key]
    for table, key in PATH_KEYS:
        if values[table] and values[table][key]:
            value = values[table][key]
            values[table][key] = (
                recorded_path(value) if isinstance(value, str) else [recorded_path(item) for item in value]
            )
    return values


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Values by dotted name, as canonical JSON: ``("gates.max_drop", "1.0")``."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", canonical_json(value)


def recorded_beside(file: str, names: Iterable[str]) -> dict[str, str]:
    """Recorded paths of files that `file` imports, by name: relative to the recorded path of `file`."""
    recorded, folder = PurePath(recorded_path(file)).parent, PurePath(file).parent
    return {name: (recorded / PurePath(name).relative_to(folder)).as_posix() for name in names}


def code_digests(project: Project, root: Path) -> dict[str, str]:
    """SHA-256 (hex) of each Python file that metric, loss or training function are in, by its recorded path.

    With those beside or below them that they import (`edgec.project.imports`).
    """
    named = [project.evaluation.metric] if project.evaluation else []
    named += [project.train.loss, project.train.function or ""] if project.train else []
    by_path: dict[str, str] = {}
    for entry, _ in filter(None, map(split_entry, named)):
        file = (root / entry).resolve()
        paths = {str(PurePath(entry).parent / path.relative_to(file.parent)): path for path in neighbours(file)}
        recorded = recorded_beside(entry, (entry, *paths))
        digests = {recorded[name]: digest_of(path) for name, path in {entry: file, **paths}.items()}
        by_path |= {name: digest for name, digest in digests.items() if digest}
    return by_path


def digest_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes; empty when it cannot be read: loading it reports the error."""
    try:
        return sha256_of(file)
    except OSError:
        return ""


def project_file_digest(root: Path) -> str:
    """SHA-256 (hex) of the bytes of edgec.toml; empty without such a file."""
    file = root / PROJECT_FILE
    return sha256_of(file) if file.exists() else ""
