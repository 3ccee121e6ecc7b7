"""The machine that edgec runs on, in the words of device files. Targets never ask it; measurements name it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from edgec.frozen import Frozen
from edgec.target.spec import ISA_FEATURES, Arch, Device

_ARCH: Mapping[str, Arch] = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

_FLAGS: dict[str, dict[str, str]] = {
    "x86_64": {"sse4_2": "sse4.2", "avx512_vnni": "avx512-vnni", "avx_vnni": "avx-vnni"},
    "aarch64": {"asimd": "neon", "asimdhp": "fp16", "asimddp": "dotprod"},
    "armv7": {},
}
"""Linux's names of features (arch/*/include/asm/cpufeatures.h, hwcap.h) where they differ from device files'."""

_ARM_PARTS = {
    "0xc07": "cortex-a7",
    "0xc0f": "cortex-a15",
    "0xd03": "cortex-a53",
    "0xd05": "cortex-a55",
    "0xd08": "cortex-a72",
    "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd41": "cortex-a78",
    "0xd4f": "neoverse-v2",
}
"""Part numbers of implementer 0x41 (Arm) -> core, as GCC's -mcpu spells it (gcc/config/aarch64/aarch64-cores.def)."""

_INT8_DOT = frozenset({"avx512-vnni", "avx-vnni", "dotprod", "i8mm"})


class Machine(Frozen):
    """The machine a measurement was made on."""

    arch: str
    cpu: str
    features: tuple[str, ...]
    """ISA features, by the names that device files use."""
    cores: int


def host_machine() -> Machine:
    """The machine of this process, from /proc/cpuinfo and the cores it may use."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return describe(platform.machine(), text, len(os.sched_getaffinity(0)))


def describe(uname: str, cpuinfo: str, cores: int) -> Machine:
    """A machine from what ``uname -m`` and /proc/cpuinfo say; features are those that device files may state."""
    arch: str = _ARCH.get(uname.lower(), "armv7" if uname.startswith("armv") else uname)
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip().lower(), value.strip())
    names = _FLAGS.get(arch, {})
    stated = {names.get(flag, flag) for flag in facts.get("flags", facts.get("features", "")).split()}
    known = next((features for name, features in ISA_FEATURES.items() if name == arch), frozenset())
    cpu = _ARM_PARTS.get(facts.get("cpu part", "")) if facts.get("cpu implementer") == "0x41" else None
    return Machine(
        arch=arch,
        cpu=cpu or facts.get("model name") or facts.get("model") or "unknown",
        features=tuple(sorted(stated & known)),
        cores=cores,
    )


def matches(device: Device, machine: Machine) -> bool:
    """Whether times measured on `machine` stand for `device`.

    The architecture and, where it is known on ARM, the core must be the same. The machine must have all features of
    the device, and neither 512-bit vectors nor int8 dot products that the device lacks: other kernels would run.
    """
    features = set(machine.features)
    if device.arch != machine.arch or not device.isa <= features:
        return False
    if device.arch != "x86_64" and device.cpu != machine.cpu:
        return False
    same_dot = bool(device.isa & _INT8_DOT) == bool(features & _INT8_DOT)
    return same_dot and ("avx512f" in device.isa) == ("avx512f" in features)
