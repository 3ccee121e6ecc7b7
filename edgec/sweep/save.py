"""Writes the chosen point as a target file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgec.errors import TargetError, UsageError
from edgec.storage.files import storage_errors, write_atomically
from edgec.storage.temporary import private_folder
from edgec.sweep.records import Point
from edgec.target.files import target_files
from edgec.target.load import load_target, resolve_file
from edgec.target.spec import Emit, check_name

MARK = "# Written by `edgec sweep`"


def own_file(name: str, root: Path, swept: Sequence[str] = ()) -> Path:
    """Where a target called `name` may be written.

    Args:
        name: of the target.
        root: the project's folder.
        swept: targets that the point is chosen from; their files are not replaced.

    Raises:
        UsageError: one of `swept` is, or extends, the target of this name.
        TargetError: the name is not valid, or belongs to a target that no sweep has written.
    """
    try:
        check_name(name)
    except ValueError as problem:
        raise TargetError(str(problem), where="--save") from None
    known = target_files(root).get(name)
    if known is not None and not written_here(known):
        raise TargetError(f'a target "{name}" exists already', where=str(known), hint="--save another name")
    file = root / "targets" / f"{name}.toml"
    for one in swept:
        if file.resolve() in (path.resolve() for path in load_target(one, root).files):
            how = "is swept" if one == name else f'is extended by "{one}"'
            raise UsageError(f'target "{name}" {how}: it cannot be replaced', hint="--save another name")
    return file


def written_here(file: Path) -> bool:
    """Whether a sweep has written this target file."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().startswith(MARK)


def swept_targets(names: Sequence[str], asked: Sequence[str], root: Path) -> tuple[str, ...]:
    """The targets to sweep: those that a sweep has written only when they are requested by name, not by a glob.

    Args:
        names: of targets.
        asked: names and globs of the request.
        root: the project's folder.
    """
    files = target_files(root)
    return tuple(name for name in names if name in asked or not written_here(files[name]))


def save_target(file: Path, point: Point, emit: Emit, rule: str, root: Path) -> None:
    """Write a target that extends the point's target by its levels and emits its artifact only.

    Args:
        file: to write.
        point: the chosen one.
        emit: entry of the target that makes its artifact.
        rule: of `--pick`, recorded in a comment.
        root: the project's folder.

    Raises:
        TargetError: the result is not a target (a defect).
        StorageError: the file cannot be written.
    """
    quantize = [f"calibration = {json.dumps(point.method)}"] if point.method else []
    if point.precision != "int8" and load_target(point.target, root).target.quantize.float_layers:
        quantize.append("float_layers = []")
    lines = [
        f"{MARK} --pick {json.dumps(rule)}: {_figures(point)}",
        f"extends = {json.dumps(point.target)}",
        f"description = {json.dumps(f'{point.target}: {point.label.removeprefix(point.target).strip()}')}",
        f"precision = {json.dumps(point.precision)}",
        "",
        "[[emit]]",
        *(f"{key} = {json.dumps(value)}" for key, value in emit.model_dump(mode="json", exclude_none=True).items()),
        *(["", "[quantize]", *quantize] if quantize else []),
        "",
        "[prune]",
        f"amount = {float(point.prune)!r}",
    ]
    text = "\n".join(lines) + "\n"
    with storage_errors(file):
        with private_folder() as folder:  # an existing file stays when the text is not a target
            draft = Path(folder, file.name)
            draft.write_text(text, encoding="utf-8")
            resolve_file(draft, root)
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)


def _figures(point: Point) -> str:
    parts = [] if point.accuracy is None else [f"accuracy {point.accuracy:.4g}"]
    parts.append(f"{point.size_kib:.1f} KiB")
    if point.pace is not None:
        parts.append(f"{point.pace.ratio:.2f} of float's latency")
    return ", ".join(parts)
