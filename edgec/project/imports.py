"""The neighbours that a Python file imports, from its syntax tree: the file is not run."""

from __future__ import annotations

import ast
import importlib.machinery
from collections.abc import Iterator
from pathlib import Path

Name = tuple[str, ...]
"""Of a module, by its parts: ``("package", "module")``."""


def neighbours(file: Path) -> tuple[Path, ...]:
    """All files beside or below `file` that it imports, and that those import, sorted; without `file` itself.

    They are found as Python finds them when `file`'s folder is on ``sys.path``: modules, packages with and without
    ``__init__.py`` (the language reference, 5.3 to 5.7), also where a function imports them when it is called. Modules
    whose names are only computed at run time are not found. What cannot be read or parsed imports nothing:
    loading it reports the error.
    """
    folder, own = file.resolve().parent, file.resolve()
    files: set[Path] = set()
    waiting: list[tuple[Path, Name]] = [(own, ())]
    while waiting:
        path, package = waiting.pop()
        for name in _imported(path, package):
            for length in range(1, len(name) + 1):
                module = _module(folder, name[:length])
                if module is not None and module != own and module not in files:
                    files.add(module)
                    inside = module.stem == "__init__"
                    waiting.append((module, name[:length] if inside else name[: length - 1]))
    return tuple(sorted(files))


def _imported(path: Path, package: Name) -> Iterator[Name]:
    """The names that the statements of one file import; ``b`` of ``from a import b`` may be a module or not."""
    try:
        tree = ast.parse(path.read_bytes()) if path.suffix == ".py" else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield (*base, alias.name)


def _module(folder: Path, name: Name) -> Path | None:
    """The file of a module in `folder`; None when it is not there, or a package without ``__init__.py``."""
    place = folder.joinpath(*name)
    for base in (place / "__init__", place):
        for suffix in importlib.machinery.all_suffixes():
            path = base.with_name(base.name + suffix)
            if path.is_file():
                return path
    return None
