"""The machine that edgec runs on, and what of it results depend on. Targets never ask it; measurements name it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from edgec.frozen import Frozen
from edgec.model.kernels import torch_capability
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


_KERNEL_FLAGS: Mapping[str, str] = {
    "x86_64": (
        "sse4_1 sse4_2 avx avx2 fma f16c avx_vnni avx_vnni_int8 avx512f avx512bw avx512cd avx512dq avx512vl avx512vbmi "
        "avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 gfni"
    ),
    "aarch64": "asimd asimdhp asimdrdm asimddp i8mm bf16 sve sve2 svei8mm svebf16 sme sme2",
    "armv7": "neon vfpv4",
}
"""Flags of /proc/cpuinfo by which kernels are chosen: ONNX Runtime's MLAS (core/mlas/lib/platform.cpp), XNNPACK
(src/configs/hardware-config.c), oneDNN (src/cpu/x64/cpu_isa_traits.hpp) and torch (ATen/native/DispatchStub.cpp)."""

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
    arch = _arch(uname)
    facts = _facts(cpuinfo)
    stated = facts.get("flags", facts.get("features", "")).split()
    return Isa(
        arch=arch,
        vendor=facts.get("vendor_id", ""),
        features=tuple(flag for flag in _KERNEL_FLAGS.get(arch, "").split() if flag in stated),
        torch=capability,
        limits=tuple(f"{name}={environment[name]}" for name in _LIMITS if environment.get(name)),
    )


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _arch(uname: str) -> str:
    return _ARCH.get(uname.lower(), "armv7" if uname.startswith("armv") else uname)


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
    arch, facts = _arch(uname), _facts(cpuinfo)
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


def saturates(machine: Machine) -> bool:
    """Whether the machine is an x86 whose kernels add pairs of int8 products in 16 bits, which can overflow."""
    return machine.arch == "x86_64" and not _INT8_DOT & set(machine.features)


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
