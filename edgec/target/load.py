"""Target files -> `Target`, with the origin of each value.

A project's own ``targets/`` folder is searched before the built-in one, for targets and for devices. A target may
``extends = "other"``: tables are merged key by key, arrays (``emit``) are replaced, before validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgec
from edgec.errors import TargetError
from edgec.target.spec import Device, Target
from edgec.toml_source import KeyPath, TomlSource, read_toml, suggest, validate

BUILT_IN = Path(edgec.__file__).parent / "targets"


@dataclass(frozen=True)
class ResolvedTarget:
    """A complete target, and where each of its values was written."""

    target: Target
    origins: Mapping[KeyPath, str]
    """Key path -> ``file:line``."""
    files: tuple[Path, ...]
    """Every file it was made from: target, those it extends, device."""

    def origin(self, dotted: str) -> str:
        """Where the value of a dotted key stands: ``targets/rpi4-int8.toml:3``, or ``default``."""
        key: KeyPath = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]] if length == len(key) or isinstance(key[-1], int) else "default"
        return "default"


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
    found: dict[str, Path] = {}
    for folder in search_path(root):
        for file in folder.glob("*.toml"):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def list_targets(root: Path) -> tuple[TargetSummary, ...]:
    """Summaries of all targets.

    Raises:
        TargetError: a file is not TOML, or extends what does not exist.
    """
    return tuple(_summary(name, file, root) for name, file in target_files(root).items())


def _summary(name: str, file: Path, root: Path) -> TargetSummary:
    values, _, _ = _merged(file, root)
    emits = values.get("emit", ())
    backends = tuple(str(item.get("backend", "?")) for item in emits if isinstance(item, dict))
    text = str(values.get("description", ""))
    return TargetSummary(name, str(values.get("device", "?")), str(values.get("precision", "?")), backends, text, file)


def load_target(name: str, root: Path) -> ResolvedTarget:
    """The target called `name`, as a project in folder `root` sees it.

    Raises:
        TargetError: there is no such target, or its file, one it extends, or its device's file is wrong.
    """
    return resolve_file(_file_of(name, root), root)


def check_file(file: Path) -> ResolvedTarget:
    """Load one target file as a project beside it would; raise TargetError when it is wrong."""
    folder = file.resolve().parent
    return resolve_file(file, folder.parent if folder.name == "targets" else folder)


def resolve_file(file: Path, root: Path) -> ResolvedTarget:
    """Load, merge and validate one target file."""
    values, origins, files = _merged(file, root)
    name = values.setdefault("name", file.stem)
    source = TomlSource(file, values, _lines_in(file, origins))
    if name != file.stem:
        raise TargetError(f'name: "{name}" is not the name of the file', where=str(file), hint=f'name = "{file.stem}"')
    device_name = values.get("device")
    if not isinstance(device_name, str):
        raise TargetError('device: missing or not text; write device = "rpi4"', where=str(file))
    device_file, device, device_origins = _device(device_name, source, root)
    target = validate(Target, source, {**values, "device": device.model_dump(mode="json")}, TargetError)
    return ResolvedTarget(target, {**origins, **device_origins}, (*files, device_file))


def _lines_in(file: Path, origins: Mapping[KeyPath, str]) -> dict[KeyPath, int]:
    return {
        key: int(place.rpartition(":")[2]) for key, place in origins.items() if place.rpartition(":")[0] == str(file)
    }


def _file_of(name: str, root: Path) -> Path:
    files = target_files(root)
    if name not in files:
        hint = suggest(name, files) or f"`edgec targets` lists the {len(files)} targets"
        raise TargetError(f'no target is called "{name}"', hint=hint)
    return files[name]


def _merged(file: Path, root: Path) -> tuple[dict[str, Any], dict[KeyPath, str], tuple[Path, ...]]:
    chain = list(_chain(file, root))
    values: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for source in reversed(chain):
        own = {key: value for key, value in source.values.items() if key not in ("extends", "name")}
        for key, value in own.items():
            if not (isinstance(value, dict) and isinstance(values.get(key), dict)):
                origins = {path: place for path, place in origins.items() if path[0] != key}
        values = _merge(values, own)
        origins |= {key: f"{source.path}:{line}" for key, line in source.lines.items() if key[0] != "extends"}
    if "name" in chain[0].values:
        values["name"] = chain[0].values["name"]
    return values, origins, tuple(source.path for source in chain)


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
    place = f"{source.path}:{source.line_of(('extends',))}"
    if not isinstance(parent, str):
        raise TargetError("extends: wrong type; write the name of a target", where=place)
    if parent == source.path.stem and (BUILT_IN / source.path.name).exists() and source.path.parent != BUILT_IN:
        return BUILT_IN / source.path.name  # a user's target refines the built-in one of the same name
    try:
        return _file_of(parent, root)
    except TargetError as error:
        raise TargetError(f"extends: {error.what}", where=place, hint=error.hint) from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _device(name: str, source: TomlSource, root: Path) -> tuple[Path, Device, dict[KeyPath, str]]:
    files = {file.stem: file for folder in reversed(search_path(root)) for file in (folder / "devices").glob("*.toml")}
    if name not in files:
        line = source.line_of(("device",))
        hint = suggest(name, files) or f"devices: {', '.join(sorted(files))}"
        raise TargetError(f'device: no device is called "{name}"', where=f"{source.path}:{line}", hint=hint)
    device = read_toml(files[name], TargetError)
    record = validate(Device, device, {"name": name, **device.values}, TargetError)
    origins: dict[KeyPath, str] = {("device", *key): f"{files[name]}:{line}" for key, line in device.lines.items()}
    return files[name], record, origins
