"""What cells depend on besides target, project and files: compiler, toolchains and the machine's instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from edgec.backends.registry import get_backend
from edgec.plan.identity import environment


@cache
def environment_of(backends: tuple[str, ...]) -> Mapping[str, str]:
    """The environment of this process, by names that a message can state.

    Args:
        backends: names of those that make artifacts.
    """
    return environment([get_backend(name) for name in backends]).by_name()


def differences(expected: Mapping[str, str], backends: Sequence[str]) -> tuple[str, ...]:
    """What is different in this process, in words.

    Args:
        expected: the environment of another process.
        backends: names of those that make artifacts.
    """
    own = environment_of(tuple(backends))
    names = sorted({*expected, *own})
    return tuple(
        f"{name} ({_short(own.get(name, 'none'))}, not {_short(expected.get(name, 'none'))})"
        for name in names
        if own.get(name) != expected.get(name)
    )


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value or "not set"
