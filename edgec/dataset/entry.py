"""Python entries ``file.py:function`` of the user's data and metrics, with deterministic random numbers."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgec.errors import EdgecError
from edgec.model.python_entry import imports_from
from edgec.project.load import split_entry
from edgec.toml_source import suggest


@contextmanager
def python_entry(value: str, root: Path, error: type[EdgecError], *, seed: int) -> Iterator[Callable[..., Any]]:
    """The function that ``file.py:function`` names; random numbers are seeded anew at each call of it.

    The file's folder can be imported from while the context is open, so that it may use its siblings.

    Args:
        value: ``file.py:function``.
        root: folder that the file is relative to.
        error: class of what is raised.
        seed: of Python's, NumPy's and, where it is imported, torch's random numbers.

    Raises:
        EdgecError: of class `error`, when the file or function is missing or importing the file fails.
    """
    parts = split_entry(value)
    if parts is None:
        raise error("not a Python entry file.py:function", where=value)
    path = (root / parts[0]).resolve()
    if not path.is_file():
        near = suggest(path.name, (item.name for item in path.parent.glob("*.py")))
        raise error("no such file", where=str(path), hint=near)
    with _seeded(seed), imports_from(path.parent):
        name = f"edgec_entry_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise error("cannot be imported", where=str(path))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look their module up by name
        try:
            try:
                spec.loader.exec_module(module)
            except Exception as exc:
                raise error(f"importing it fails: {type(exc).__name__}: {exc}", where=str(path)) from exc
            function = getattr(module, parts[1], None)
            if not callable(function):
                known = [key for key, item in vars(module).items() if callable(item) and not key.startswith("_")]
                raise error(f'has no function "{parts[1]}"', where=str(path), hint=suggest(parts[1], known))

            def seeded(*arguments: Any) -> Any:
                _seed(seed)
                return function(*arguments)

            yield seeded
        finally:
            sys.modules.pop(name, None)


@contextmanager
def entry_errors(error: type[EdgecError], file: str) -> Iterator[None]:
    """Turn what the user's code raises into an `error` that names the line of `file`."""
    try:
        yield
    except EdgecError:
        raise
    except Exception as exc:
        raise error(f"{type(exc).__name__}: {exc}", where=entry_place(exc, file)) from exc


def entry_place(exc: BaseException, path: str) -> str:
    """``file.py:12`` of the innermost frame of `exc` in the user's file `path` (or just `path`)."""
    name = Path(path).name
    line, trace = 0, exc.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename).name == name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else path


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")  # an entry that imports torch itself seeds it itself
    torch_state = torch.get_rng_state() if torch else None
    _seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch and torch_state is not None:
            torch.set_rng_state(torch_state)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
