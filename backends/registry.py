"""Backends by name: built-in ones from a table, third parties' through the entry-point group ``edgec.backends``."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from functools import cache

from edgec.backends.interface import AnyBackend
from edgec.errors import BackendUnavailableError, TargetError
from edgec.target.spec import Precision
from edgec.toml_source import suggest

BUILT_IN = {
    "fbgemm": "edgec.backends.fbgemm.backend",
    "qnnpack": "edgec.backends.qnnpack.backend",
    "onnxruntime": "edgec.backends.onnxruntime.backend",
    "tflite": "edgec.backends.tflite.backend",
    "example": "edgec.backends.example.backend",
}
"""Name -> module, whose ``BACKEND`` is the backend object."""

ENTRY_POINT_GROUP = "edgec.backends"


def backend_names() -> tuple[str, ...]:
    """Names of all backends that can be asked for: built-in first."""
    return (*BUILT_IN, *sorted(_entry_points()))


def get_backend(name: str) -> AnyBackend:
    """The backend called `name`; its toolchain is not imported.

    Raises:
        TargetError: no backend has this name.
        BackendUnavailableError: a third party's entry point cannot be loaded.
    """
    if name in BUILT_IN:
        backend: AnyBackend = importlib.import_module(BUILT_IN[name]).BACKEND
        return backend
    points = _entry_points()
    if name not in points:
        hint = suggest(name, backend_names()) or f"backends: {', '.join(backend_names())}"
        raise TargetError(f'no backend is called "{name}"', hint=hint)
    try:
        loaded: AnyBackend = points[name].load()
    except Exception as exc:
        raise BackendUnavailableError(
            f'entry point of backend "{name}" cannot be loaded: {exc}',
            where=points[name].value,
            hint="reinstall or uninstall the package that registers it",
        ) from exc
    return loaded


def _entry_points() -> Mapping[str, importlib.metadata.EntryPoint]:
    return _entry_points_on(tuple(sys.path))


@cache  # reading what is installed takes longer than planning a target
def _entry_points_on(path: tuple[str, ...]) -> Mapping[str, importlib.metadata.EntryPoint]:
    points: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.name in BUILT_IN or point.name in points:
            raise TargetError(
                f'backend "{point.name}" is registered twice', where=point.value, hint="uninstall one of the packages"
            )
        points[point.name] = point
    return points


def missing_packages(backend: AnyBackend, precision: Precision) -> tuple[str, ...]:
    """Distributions that `backend` needs for a precision and that are not installed, but could be."""
    return tuple(
        package.distribution
        for package in backend.packages
        if precision in package.precisions and not package.no_wheel and package_version(package.distribution) is None
    )


def package_version(distribution: str) -> str | None:
    """Installed version of a distribution, or None; reads metadata only."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def require_packages(backend: AnyBackend, precision: Precision) -> None:
    """Raise BackendUnavailableError unless all that `backend` needs for a precision is installed."""
    if missing := missing_packages(backend, precision):
        raise BackendUnavailableError(
            f"{precision} needs packages that are not installed: {', '.join(missing)}",
            where=f"backend {backend.name}",
            hint=install_command(backend, missing),
        )


def install_command(backend: AnyBackend, missing: Sequence[str]) -> str:
    """The command that installs some distributions of a backend, as of `missing_packages`."""
    packages = [package for package in backend.packages if package.distribution in missing]
    by_extra = [package for package in packages if not package.install_here]
    extra = next((package.extra for package in by_extra if package.extra), backend.extra)
    names = [f"'edgec[{extra}]'"] if extra else [package.distribution for package in by_extra]
    commands = [" ".join(names)] if by_extra else []
    return " && ".join(f"pip install {what}" for what in (*commands, *filter(None, (p.install_here for p in packages))))
