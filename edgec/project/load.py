"""edgec.toml merged with flags -> Project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.errors import ProjectError
from edgec.project.flags import NAME_OR_PATH_KEYS, PATH_KEYS
from edgec.project.spec import Project
from edgec.toml_source import TomlSource, read_toml, validate

PROJECT_FILE = "edgec.toml"

FlagValues = Mapping[tuple[str, str], Any]
"""Project key -> value given on the command line or to `edgec.build`."""


def load_project(root: Path, flag_values: FlagValues | None = None, *, cwd: Path | None = None) -> Project:
    """The project in folder `root`, with flags on top.

    A model named by a flag replaces the whole ``[model]`` table; every other flag sets its one key. Paths in
    edgec.toml are relative to `root`, those of flags to `cwd`; the result has them all relative to `root`.

    Args:
        root: the project's folder.
        flag_values: values of flags by project key; None: not given.
        cwd: folder that paths in flags are relative to; default: the current one.

    Raises:
        ProjectError: the file is wrong, or there is neither a file nor a model flag.
    """
    given = {key: value for key, value in (flag_values or {}).items() if value is not None}
    path = root / PROJECT_FILE
    values: dict[str, Any] = {}
    if path.exists():
        source = read_toml(path, ProjectError)
        validate(Project, source, source.values, ProjectError)
        values = dict(source.values)
    elif ("model", "path") not in given:
        raise no_project(root)
    if not given:
        return validate(Project, TomlSource(path, values, {}), values, ProjectError)
    values = with_flags(values, given, root, cwd or Path.cwd())
    return validate(Project, TomlSource(Path("command line"), values, {}), values, ProjectError)


def with_flags(values: Mapping[str, Any], given: FlagValues, root: Path, cwd: Path) -> dict[str, Any]:
    """The values of an edgec.toml in `root` with those of flags on top, which are relative to `cwd`.

    Args:
        values: of an edgec.toml.
        given: values of flags by project key.
        root: the project's folder.
        cwd: folder that paths in flags are relative to.
    """
    merged = dict(values)
    if ("model", "path") in given:
        merged["model"] = {}
    for (table, key), value in given.items():
        if (table, key) in PATH_KEYS:
            keep = (table, key) in NAME_OR_PATH_KEYS
            several = isinstance(value, (list, tuple))
            paths = [_relative(str(item), cwd, root, keep=keep) for item in (value if several else [value])]
            value = paths if several else paths[0]
        merged[table] = {**merged.get(table, {}), key: value}
    return merged


def no_project(root: Path) -> ProjectError:
    """The error where there is neither an edgec.toml nor a MODEL."""
    return ProjectError(
        f"no {PROJECT_FILE} in {root if str(root) != '.' else 'this folder'}, and no MODEL was named",
        hint="run in the folder of your edgec.toml, or: edgec build MODEL --calibration DATA --evaluate DATA",
    )


def _relative(value: str, cwd: Path, root: Path, *, keep: bool) -> str:
    entry = split_entry(value)
    if keep and entry is None:
        return value  # a metric or loss by name
    path = os.path.relpath(cwd / (entry[0] if entry else value), root)
    return f"{path}:{entry[1]}" if entry else path


def split_entry(value: str) -> tuple[str, str] | None:
    """``("file.py", "function")`` of a Python entry ``file.py:function``; None for a plain path."""
    file, colon, function = value.rpartition(":")
    return (file, function) if colon and file.endswith(".py") else None
