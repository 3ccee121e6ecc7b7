"""The x86 target whose integer kernels this machine has.

Without VNNI, kernels add up products in 16 bits, and weights of a target that has it overflow them here, though not on
its own device.
"""

from __future__ import annotations

from edgec.machine import host_machine

_VNNI = frozenset({"avx512-vnni", "avx-vnni"})
HAS_VNNI = bool(_VNNI & {*host_machine().features})
HOST = "x86-64-vnni" if HAS_VNNI else "x86-64"
"""Without the precision: ``f"{HOST}-int8"``."""
HOST_ISA = frozenset({"avx2", "avx512-vnni"}) if HAS_VNNI else frozenset({"avx2"})
"""What a device must have for this machine to compute as it does."""
