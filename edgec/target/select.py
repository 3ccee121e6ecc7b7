"""From what a user names (names and globs) to target names."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from edgec.errors import TargetError
from edgec.target.files import target_files
from edgec.toml_source import suggest


def select_one(pattern: str, root: Path) -> str:
    """Name of the one target that `pattern` names.

    Raises:
        TargetError: it names no target, or several.
    """
    names = select([pattern], root)
    if len(names) > 1:
        raise TargetError(f'"{pattern}" names {len(names)} targets', hint=f"name one of {', '.join(names)}")
    return names[0]


def select(patterns: Sequence[str], root: Path) -> tuple[str, ...]:
    """Names of the targets that `patterns` name, each once, in the order named.

    Raises:
        TargetError: a name or glob matches no target.
    """
    known = list(target_files(root))
    return choose(patterns, known, f"`edgec targets` lists the {len(known)} targets")


def choose(patterns: Sequence[str], known: Sequence[str], listed: str) -> tuple[str, ...]:
    """Those of `known` that `patterns` name, each once, in the order named.

    Args:
        patterns: names and globs.
        known: names to choose from.
        listed: hint that lists the names, for when no similar name is known.

    Raises:
        TargetError: a name or glob matches none.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = fnmatch.filter(known, pattern)
        if not matches:
            kind = "matches the glob" if set("*?[") & set(pattern) else "is called"
            raise TargetError(f'no target {kind} "{pattern}"', hint=suggest(pattern.strip("*?"), known) or listed)
        chosen.update(dict.fromkeys(matches))
    return tuple(chosen)
