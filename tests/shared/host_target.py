"""The x86 target whose integer kernels this machine has.

Without VNNI, kernels add up products in 16 bits, and weights of a target that has it overflow them here, though not on
its own device.
"""

from __future__ import annotations

from edgec.machine import host_machine

_VNNI = frozenset({"avx512-vnni", "avx-vnni"})
HOST = "x86-64-vnni" if _VNNI & {*host_machine().features} else "x86-64"
"""Without the precision: ``f"{HOST}-int8"``."""
