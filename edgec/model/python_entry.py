"""The module that a Python entry ``file.py:function`` gives."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import EdgecError, ModelError
from edgec.model.trace import explain
from edgec.toml_source import suggest

if TYPE_CHECKING:
    import torch

NO_WEIGHTS = "no weights file is named"
"""Begin of the note on a module that keeps the weights its code gives it."""


@contextmanager
def imports_from(folder: Path) -> Iterator[Callable[[], list[Path]]]:
    """Let the user's code import its neighbours, and forget them again: another project may have the same names.

    Gives a function that lists the files in `folder` which have been imported so far.
    """
    path, modules = list(sys.path), dict(sys.modules)
    sys.path.insert(0, str(folder))

    def own() -> dict[str, Path]:
        imported = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name in modules or not file or "site-packages" in Path(file).parts:
                continue  # a virtual environment often lies inside the project folder; torch can't load twice
            # modules made at run time, as torch.classes, have the name of no file
            if Path(file).is_absolute() and Path(file).resolve().is_relative_to(folder):
                imported[name] = Path(file).resolve()
        return imported

    try:
        yield lambda: sorted(set(own().values()))
    finally:
        sys.path[:] = path
        for name in own():
            del sys.modules[name]


@contextmanager
def plain_python() -> Iterator[None]:
    """Let ``torch.compile`` and ``torch.jit.script`` hand back what they are given, so that it can be traced."""
    import torch

    compile_before, jit_before = torch.compile, torch.jit._state._enabled.enabled
    torch.compile = _given
    torch.jit._state._enabled.enabled = False
    try:
        yield
    finally:
        torch.compile = compile_before
        torch.jit._state._enabled.enabled = jit_before


def _given(model: Any = None, **options: Any) -> Any:
    """`model` itself, or as a decorator with options one that gives it."""
    return model if model is not None else _given


def entry_module(
    file: Path, function: str, arguments: Mapping[str, Any], weights: Path | None
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Call `function` of `file` with `arguments` and load `weights` into what it returns; also gives notes.

    Runs within `imports_from`. Random initial weights are the same in every run.

    Args:
        file: absolute path.
        function: name of a function or class in it.
        arguments: keyword arguments.
        weights: a state_dict file; None: the module keeps its own weights.

    Raises:
        ModelError: the file fails, has no such function, or returns no module; or the weights do not fit.
    """
    import torch

    from edgec.model.plain import unwrapped
    from edgec.model.weights import load_weights

    value = getattr(_imported(file, function), function)
    if not isinstance(value, torch.nn.Module):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            value = _called(value, file, function, arguments)
    if not isinstance(value, torch.nn.Module):
        raise ModelError(
            f"{function} returned a {type(value).__name__}, not a torch.nn.Module", where=f"{file.name}:{function}"
        )
    value, notes = unwrapped(value)
    if weights is None:
        return value, (*notes, f"{NO_WEIGHTS}: the parameters are those that {function} gives")
    return value, notes + load_weights(value, weights, f"{file.name}:{function}")


def _imported(file: Path, function: str) -> Any:
    name = file.stem if file.stem.isidentifier() else "edgec_entry"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModelError("not a Python file", where=file.name)
    module = importlib.util.module_from_spec(spec)
    hidden = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickles look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except (EdgecError, KeyboardInterrupt):
        raise
    except SyntaxError as exc:
        raise ModelError(f"line {exc.lineno}: {exc.msg}", where=file.name) from exc
    except BaseException as exc:  # also SystemExit
        raise ModelError(f"it fails when imported: {type(exc).__name__}: {explain(exc)}", where=file.name) from exc
    finally:
        if hidden is not None:
            sys.modules[name] = hidden
    if not hasattr(module, function):
        defined = [key for key, item in vars(module).items() if callable(item) and not key.startswith("_")]
        hint = suggest(function, defined) or f"it defines {', '.join(sorted(defined)) or 'nothing callable'}"
        raise ModelError(f'no function or class "{function}"', where=file.name, hint=hint)
    return module


def _called(entry: Any, file: Path, function: str, arguments: Mapping[str, Any]) -> Any:
    place = f"{file.name}:{function}"
    if not callable(entry):
        raise ModelError(f"{function} is a {type(entry).__name__}, not a function or class", where=place)
    try:
        inspect.signature(entry).bind(**arguments)
    except TypeError as exc:
        raise ModelError(
            f"it cannot be called with the given arguments: {exc}", where=place, hint="set [model] arguments"
        ) from None
    except ValueError:
        pass  # a builtin without signature
    try:
        return entry(**arguments)
    except EdgecError:
        raise
    except Exception as exc:  # the caller reports SystemExit, with its line
        raise ModelError(f"it fails when called: {type(exc).__name__}: {explain(exc)}", where=place) from exc
