"""What cells depend on besides target, project and files: compiler, toolchains and the machine's instructions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache

from edgec.backends.registry import get_backend, package_version
from edgec.ladder.cells import COMMON_PACKAGES
from edgec.machine import host_machine
from edgec.storage.cache import code_digest


@cache
def environment(backends: tuple[str, ...]) -> Mapping[str, str]:
    """By name for people, of this process; kernels depend on the instruction set, not on the number of cores.

    Args:
        backends: names of those that make artifacts.
    """
    machine = host_machine()
    packages = set(COMMON_PACKAGES)
    found = {"edgec's code": code_digest("edgec")}
    for name in backends:
        backend = get_backend(name)
        packages |= {package.distribution for package in backend.packages}
        module = type(backend).__module__
        if not module.startswith("edgec."):
            found[f"code of {name}"] = code_digest(module.rpartition(".")[0] or module)
    found |= {name: package_version(name) or "not installed" for name in sorted(packages)}
    found["Python"] = platform.python_version()
    found["instruction set"] = " ".join((machine.arch, *machine.features))
    found["ATEN_CPU_CAPABILITY"] = os.environ.get("ATEN_CPU_CAPABILITY", "")
    return found


def differences(expected: Mapping[str, str], backends: Sequence[str]) -> tuple[str, ...]:
    """What is different in this process, in words."""
    own = environment(tuple(backends))
    names = sorted({*expected, *own})
    return tuple(
        f"{name} ({_short(own.get(name, 'none'))}, not {_short(expected.get(name, 'none'))})"
        for name in names
        if own.get(name) != expected.get(name)
    )


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value or "not set"
