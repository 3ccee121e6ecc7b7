"""Target files -> `Target`, complete and validated, with the origin of each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import TargetError
from edgec.target.files import file_of, keys_in, merged_values, search_path
from edgec.target.spec import Device, Target
from edgec.toml_source import KeyPath, TomlSource, read_toml, suggest, validate


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
        return self.origins.get(tuple(int(part) if part.isdigit() else part for part in dotted.split(".")), "default")


def load_target(name: str, root: Path) -> ResolvedTarget:
    """The target called `name`, as a project in folder `root` sees it.

    Raises:
        TargetError: the target does not exist, or its file, one it extends, or its device's file is wrong.
    """
    return resolve_file(file_of(name, root), root)


def check_file(file: Path) -> ResolvedTarget:
    """Load one target file as a project beside it would; raise TargetError when it is wrong."""
    folder = file.resolve().parent
    return resolve_file(file, folder.parent if folder.name == "targets" else folder)


def resolve_file(file: Path, root: Path) -> ResolvedTarget:
    """Load, merge and validate one target file."""
    values, origins, files = merged_values(file, root)
    name = values.setdefault("name", file.stem)
    source = TomlSource(file, values, origins)
    if name != file.stem:
        raise TargetError(f'name: "{name}" is not the name of the file', where=str(file), hint=f'name = "{file.stem}"')
    device_name = values.get("device")
    if not isinstance(device_name, str):
        hint = 'write the name of a device: device = "rpi4"'
        raise TargetError("device: missing or not text", where=source.place_of(("device",)), hint=hint)
    device_file, device, device_origins = _device(device_name, source, root)
    target = validate(Target, source, {**values, "device": device.model_dump(mode="json")}, TargetError)
    return ResolvedTarget(target, {**origins, **device_origins}, (*files, device_file))


def _device(name: str, source: TomlSource, root: Path) -> tuple[Path, Device, dict[KeyPath, str]]:
    files = {file.stem: file for folder in reversed(search_path(root)) for file in (folder / "devices").glob("*.toml")}
    if name not in files:
        hint = suggest(name, files) or f"devices: {', '.join(sorted(files))}"
        raise TargetError(f'device: no device is called "{name}"', where=source.place_of(("device",)), hint=hint)
    device = read_toml(files[name], TargetError)
    stated = device.values.get("name", name)
    if stated != name:
        place = device.place_of(("name",))
        raise TargetError(f'name: "{stated}" is not the name of the file', where=place, hint=f'name = "{name}"')
    record = validate(Device, device, {"name": name, **device.values}, TargetError)
    origins: dict[KeyPath, str] = {("device", *key): device.place_of(key) for key in keys_in(device.values)}
    return files[name], record, origins
