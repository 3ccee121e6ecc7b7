"""The runtimes of a TFLite file, and which of them a target insists on."""

from __future__ import annotations

from edgec.backends.interface import Package
from edgec.target.spec import Emit, Target

LITERT = "ai-edge-litert"
TFLITE_RUNTIME = "tflite-runtime"
RUNTIMES = (LITERT, TFLITE_RUNTIME)
"""In the order they are tried: the first is timed (tflite-runtime's x86 build has no fast int8 kernels)."""
PACKAGES = (
    Package(distribution=LITERT, purpose="run"),
    Package(distribution=TFLITE_RUNTIME, purpose="run", python_below=(3, 12), requires=("numpy<2",)),
)


def judged_runtimes(target: Target, emit: Emit) -> tuple[str, ...]:
    """The runtimes an artifact of this target must be right in."""
    if emit.runtimes is not None:
        return tuple(name for name in RUNTIMES if name in emit.runtimes)
    if target.device.arch == "armv7":
        return (TFLITE_RUNTIME,)  # the only one with wheels for 32-bit ARM
    return RUNTIMES


def tried_runtimes(target: Target, emit: Emit) -> tuple[str, ...]:
    """Those of `judged_runtimes` that can be had on this host: what a pass may try its program in."""
    without = {package.distribution for package in PACKAGES if package.no_wheel}
    return tuple(name for name in judged_runtimes(target, emit) if name not in without)
