"""Target files: where they are, what they extend, their merged values. Pure data, without validation: listing is fast.

A project's own ``targets/`` folder is searched before the built-in one, for targets and for devices. A target may
``extends = "other"``: tables are merged key by key, arrays (``emit``) are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.errors import TargetError
from edgec.toml_source import KeyPath, TomlSource, read_toml, suggest

BUILT_IN = Path(__file__).parents[1] / "targets"


@dataclass(frozen=True)
class TargetSummary:
    """A target in a listing; not validated beyond its own file."""

    name: str
    device: str
    precision: str
    backends: tuple[str, ...]
    description: str
    file: Path


def search_path(root: Path) -> tuple[Path, ...]:
    """Folders of target files, first match wins: the project's own, then the built-in one."""
    return tuple(folder for folder in (root / "targets", BUILT_IN) if folder.is_dir())


def target_files(root: Path) -> dict[str, Path]:
    """Name -> file of every target that can be asked for, in order of their names."""
    files: dict[str, Path] = {}
    for folder in search_path(root):
        for file in folder.glob("*.toml"):
            files.setdefault(file.stem, file)
    return dict(sorted(files.items()))


def list_targets(root: Path) -> tuple[TargetSummary, ...]:
    """Summaries of all targets.

    Raises:
        TargetError: a file is not TOML, or extends what does not exist.
    """
    return tuple(_summary(name, file, root) for name, file in target_files(root).items())


def _summary(name: str, file: Path, root: Path) -> TargetSummary:
    values, _, _ = merged_values(file, root)
    emits = values.get("emit")
    backends = tuple(
        str(item.get("backend", "?"))
        for item in (emits if isinstance(emits, list) else ())  # loading the target reports a wrong type
        if isinstance(item, dict)
    )
    text = str(values.get("description", ""))
    return TargetSummary(name, str(values.get("device", "?")), str(values.get("precision", "?")), backends, text, file)


def file_of(name: str, root: Path) -> Path:
    """File of the target called `name`; TargetError with a suggestion when there is not any."""
    files = target_files(root)
    if name not in files:
        hint = suggest(name, files) or f"`edgec targets` lists the {len(files)} targets"
        raise TargetError(f'no target is called "{name}"', hint=hint)
    return files[name]


def merged_values(file: Path, root: Path) -> tuple[dict[str, Any], dict[KeyPath, str], tuple[Path, ...]]:
    """Values of a target file over those it extends, the ``file:line`` of each key, and all files read."""
    chain = list(_chain(file, root))
    values: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for source in reversed(chain):
        own = {key: value for key, value in source.values.items() if key not in ("extends", "name")}
        for key, value in own.items():
            if not (isinstance(value, dict) and isinstance(values.get(key), dict)):
                origins = {path: place for path, place in origins.items() if path[0] != key}
        values = _merge(values, own)
        origins |= {key: source.place_of(key) for key in keys_in(own)}
    if "name" in chain[0].values:
        values["name"] = chain[0].values["name"]
    return values, origins, tuple(source.path for source in chain)


def keys_in(value: Any, above: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key that is written in a value, also those of inline tables, which share their table's line."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from keys_in(item, (*above, key))


def _chain(file: Path, root: Path) -> Iterator[TomlSource]:
    """The file, then what it extends, and so on."""
    seen: list[Path] = []
    current: Path | None = file
    while current is not None:
        if current in seen:
            names = " -> ".join(path.stem for path in (*seen, current))
            raise TargetError(f"extends: a circle: {names}", where=str(file))
        seen.append(current)
        source = read_toml(current, TargetError)
        yield source
        parent = source.values.get("extends")
        current = _parent_of(source, parent, root) if parent is not None else None


def _parent_of(source: TomlSource, parent: object, root: Path) -> Path:
    place = source.place_of(("extends",))
    if not isinstance(parent, str):
        raise TargetError("extends: wrong type; write the name of a target", where=place)
    if parent == source.path.stem and (BUILT_IN / source.path.name).exists() and source.path.parent != BUILT_IN:
        return BUILT_IN / source.path.name  # a user's target refines the built-in one of the same name
    try:
        return file_of(parent, root)
    except TargetError as error:
        raise TargetError(f"extends: {error.what}", where=place, hint=error.hint) from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
