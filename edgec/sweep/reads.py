"""Which files code of the project reads: data entries and metrics may open what edgec.toml does not name.

Python tells of every file that it opens by an audit event (PEP 578). Files that native code opens by itself are not
seen; those named in edgec.toml are known anyway.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_listening: list[set[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _listening:
        return
    path, mode, flags = arguments
    writes = isinstance(mode, str) and set(mode) & set("wax+")
    if isinstance(path, (str, bytes)) and not writes and not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # the current folder may change until it is looked at
        for names in _listening:
            names.add(name)


_hooked: list[bool] = []


@contextmanager
def files_read(*apart: Path) -> Iterator[set[Path]]:
    """The regular files that Python opens for reading inside, but for Python's own; complete when the context ends.

    Args:
        apart: files and folders that are left out.
    """
    if not _hooked:
        sys.addaudithook(_hear)  # for good: hooks cannot be taken away
        _hooked.append(True)
    names: set[str] = set()
    found: set[Path] = set()
    _listening.append(names)
    try:
        yield found
    finally:
        _listening[:] = [item for item in _listening if item is not names]
    system = [Path(name) for name in ("/proc", "/sys", "/dev", "/etc", sys.prefix, sys.base_prefix, sys.exec_prefix)]
    system += [Path(name) for name in sysconfig.get_paths().values()]
    package = Path(__file__).parents[1]
    system += [package, package / "backends", package / "targets"]  # in a checkout the latter two are links
    ignored = {path.resolve() for path in (*system, Path(tempfile.gettempdir()), *apart)}
    for path in map(Path, sorted(names)):
        real = path.resolve()
        if path.suffix != ".pyc" and path.is_file() and ignored.isdisjoint((real, *real.parents)):
            found.add(path)
