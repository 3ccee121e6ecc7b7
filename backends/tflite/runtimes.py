"""The runtimes of a TFLite file, and which of them a target insists on."""

from __future__ import annotations

from edgec.target.spec import Emit, Target

LITERT = "ai-edge-litert"
TFLITE_RUNTIME = "tflite-runtime"
RUNTIMES = (LITERT, TFLITE_RUNTIME)
"""In the order they are tried: the first is timed (tflite-runtime's x86 build has no fast int8 kernels)."""


def judged_runtimes(target: Target, emit: Emit) -> tuple[str, ...]:
    """The runtimes an artifact of this target must be right in."""
    if emit.runtimes is not None:
        return tuple(name for name in RUNTIMES if name in emit.runtimes)
    if target.device.arch == "armv7":
        return (TFLITE_RUNTIME,)  # the only one with wheels for 32-bit ARM
    return RUNTIMES
