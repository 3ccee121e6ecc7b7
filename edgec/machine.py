"""The machine that edgec runs on, and what of it results depend on. Targets never ask it; measurements name it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from edgec.frozen import Frozen
from edgec.model.kernels import torch_capability
from edgec.target.architecture import ARCHITECTURES, architecture_of
from edgec.target.spec import Device

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

_LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Environment variables that keep torch, oneDNN, the C library, MKL, NumPy or OpenBLAS from using all of a CPU."""


class Platform(Frozen):
    """What of a machine decides which kernels run on it."""

    arch: str
    features: tuple[str, ...]
    """ISA features, by the names that device files use."""


class Machine(Platform):
    """The machine a measurement was made on."""

    cpu: str
    cores: int

    def platform(self) -> Platform:
        """Without what may differ between machines that compute the same."""
        return Platform(arch=self.arch, features=self.features)


class Isa(Frozen):
    """What kernel libraries can use of this CPU: with the same, the same inputs give the same bytes."""

    arch: str
    vendor: str = ""
    """Of an x86 CPU: MKL has other kernels for AMD's than for Intel's."""
    features: tuple[str, ...]
    """CPU flags that kernels are chosen by, as Linux names them; ONNX Runtime and XNNPACK use all of them."""
    torch: str
    """What torch's own kernels use (``torch.backends.cpu.get_cpu_capability``): ``AVX512``, ``AVX2``, ``DEFAULT``..."""
    limits: tuple[str, ...] = ()
    """``NAME=VALUE`` of environment variables that keep libraries from using all of it."""

    def words(self) -> str:
        """On one line."""
        vendor = (self.vendor,) if self.vendor else ()
        torch = (f"torch={self.torch}",) if self.torch else ()
        return " ".join((self.arch, *vendor, *self.features, *torch, *self.limits))


def host_machine() -> Machine:
    """The machine of this process, from /proc/cpuinfo and the cores it may use."""
    return describe(platform.machine(), _cpuinfo(), len(os.sched_getaffinity(0)))


def host_isa() -> Isa:
    """What kernel libraries can use in this process and its children; imports torch."""
    return describe_isa(platform.machine(), _cpuinfo(), torch_capability(), os.environ)


def host_kernels() -> Isa:
    """What `host_isa` states, without torch's own choice, which follows from the rest; imports no framework."""
    return describe_isa(platform.machine(), _cpuinfo(), "", os.environ)


def describe_isa(uname: str, cpuinfo: str, capability: str, environment: Mapping[str, str]) -> Isa:
    """An `Isa` from what ``uname -m``, /proc/cpuinfo, torch and the environment say."""
    arch, facts = architecture_of(uname), _facts(cpuinfo)
    stated = facts.get(arch.flags_key, "").split() if arch else []
    return Isa(
        arch=arch.name if arch else uname,
        vendor=facts.get("vendor_id", ""),
        features=tuple(flag for flag in arch.kernel_flags if flag in stated) if arch else (),
        torch=capability,
        limits=tuple(f"{name}={environment[name]}" for name in _LIMITS if environment.get(name)),
    )


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _facts(cpuinfo: str) -> dict[str, str]:
    """Key -> value of the first processor."""
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip().lower(), value.strip())
    return facts


def describe(uname: str, cpuinfo: str, cores: int) -> Machine:
    """A machine from what ``uname -m`` and /proc/cpuinfo say; features are those that device files may state."""
    arch, facts = architecture_of(uname), _facts(cpuinfo)
    stated = facts.get(arch.flags_key, "").split() if arch else []
    features = {name for name, flag in arch.features.items() if flag in stated} if arch else set()
    cpu = _ARM_PARTS.get(facts.get("cpu part", "")) if facts.get("cpu implementer") == "0x41" else None
    return Machine(
        arch=arch.name if arch else uname,
        cpu=cpu or facts.get("model name") or facts.get("model") or "unknown",
        features=tuple(sorted(features)),
        cores=cores,
    )


def saturates(machine: Machine) -> bool:
    """Whether the machine's kernels add pairs of int8 products in 16 bits, which can overflow."""
    arch = ARCHITECTURES.get(machine.arch)
    return arch is not None and arch.int8_adds_in_16_bits and not arch.int8_dot & set(machine.features)


def matches(device: Device, machine: Machine) -> bool:
    """Whether times measured on `machine` stand for `device`.

    The architecture and, where times hold for one core only, the core must be the same. The machine must have all
    features of the device, and none by which other kernels would run: int8 dot products or 512-bit vectors.
    """
    arch, features = ARCHITECTURES[device.arch], set(machine.features)
    if device.arch != machine.arch or not device.isa <= features:
        return False
    if arch.one_core and device.cpu != machine.cpu:
        return False
    same_dot = bool(device.isa & arch.int8_dot) == bool(features & arch.int8_dot)
    return same_dot and device.isa & arch.other_kernels == features & arch.other_kernels
