"""What a result depends on besides its own inputs: the one list that every cache key and edgec.lock is made from."""

from __future__ import annotations

import platform
from collections.abc import Collection, Sequence

from edgec.backends.interface import AnyBackend
from edgec.backends.registry import package_version
from edgec.frozen import Frozen
from edgec.machine import host_kernels
from edgec.storage.cache import code_digest

COMMON_PACKAGES = ("torch", "numpy", "torch-pruning")
"""Distributions that every result depends on."""


class Environment(Frozen):
    """The software and the instruction set that a result is computed with."""

    packages: dict[str, str]
    """Version by distribution; ``not installed`` where it is missing."""
    python: str
    code: dict[str, str]
    """SHA-256 (hex) by package of edgec, or of a third-party backend."""
    kernels: str
    """What kernel libraries choose their kernels by (`edgec.machine.Isa`)."""

    def by_name(self) -> dict[str, str]:
        """One value for each name that a message can state."""
        code = {f"code of {name}": digest for name, digest in self.code.items()}
        return {**code, **self.packages, "Python": self.python, "instruction set": self.kernels}


def environment(backends: Collection[AnyBackend] = (), *, code: Sequence[str] = ("edgec",)) -> Environment:
    """The environment of this process.

    Args:
        backends: those that take part in the result; third parties' add their own code.
        code: packages of edgec that compute the result.
    """
    modules = {name: name for name in code}
    for backend in backends:
        module = type(backend).__module__
        if not module.startswith("edgec."):
            modules[backend.name] = module.rpartition(".")[0] or module
    return Environment(
        packages=package_versions(backends),
        python=platform.python_version(),
        code={name: code_digest(module) for name, module in modules.items()},
        kernels=host_kernels().words(),
    )


def package_versions(backends: Collection[AnyBackend] = ()) -> dict[str, str]:
    """Version of each distribution that artifacts of `backends` depend on; ``not installed`` where it is missing."""
    names = {*COMMON_PACKAGES, *(package.distribution for backend in backends for package in backend.packages)}
    return {name: package_version(name) or "not installed" for name in sorted(names)}
