"""Instruction-set architectures: what edgec knows of each. A new one is a row of `ARCHITECTURES`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgec.frozen import Frozen


class Architecture(Frozen):
    """One instruction-set architecture."""

    name: str
    """As device files state it: ``aarch64``."""
    machine: str
    """Regular expression of what ``uname -m`` prints on it, in lower case."""
    features: Mapping[str, str]
    """Features that a device may state -> the flag of each in /proc/cpuinfo (Linux, arch/*/include/asm/cpufeatures.h,
    hwcap.h)."""
    flags_key: str
    """Key of the line of flags in /proc/cpuinfo, in lower case."""
    kernel_flags: tuple[str, ...]
    """Flags by which libraries choose kernels: ONNX Runtime's MLAS (core/mlas/lib/platform.cpp), XNNPACK
    (src/configs/hardware-config.c), oneDNN (src/cpu/x64/cpu_isa_traits.hpp), torch (ATen/native/DispatchStub.cpp)."""
    int8_dot: frozenset[str] = frozenset()
    """Features with which int8 products accumulate straight into 32 bits."""
    int8_adds_in_16_bits: bool = False
    """Whether kernels add pairs of int8 products in 16 bits, which can overflow, on a CPU without `int8_dot`."""
    other_kernels: frozenset[str] = frozenset()
    """Features besides `int8_dot` with which so different kernels run that times do not hold without them."""
    one_core: bool = True
    """Whether times hold for one CPU core by its name, not for all CPUs with the same features."""
    channel_multiples: Mapping[str, int]
    """Feature -> output channels that int8 kernels compute at once with it; the first that a device has counts."""
    oci: Mapping[str, str]
    """Platform of an OCI image: Go's GOARCH and the CPU's variant (image-spec 1.1, "Image Index Property
    Descriptions")."""


_X86_FEATURES = "sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512-vnni", "avx-vnni"
"""In Linux's flags with underscores."""

ARCHITECTURES: Mapping[str, Architecture] = {
    item.name: item
    for item in (
        Architecture(
            name="x86_64",
            machine="x86_64|amd64",
            features={name: re.sub("[.-]", "_", name) for name in _X86_FEATURES},
            flags_key="flags",
            kernel_flags=(
                *("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw"),
                *("avx512cd", "avx512dq", "avx512vl", "avx512vbmi", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
                *("amx_tile", "amx_int8", "amx_bf16", "gfni"),
            ),
            int8_dot=frozenset({"avx512-vnni", "avx-vnni"}),
            int8_adds_in_16_bits=True,
            other_kernels=frozenset({"avx512f"}),
            one_core=False,
            # ONNX Runtime's depthwise 3x3 with 104 channels takes 2.3 times as long as with 112; XNNPACK's kernels take
            # 16 too. Wider AVX-512 kernels of 32 channels are not counted: they mask what is left over.
            channel_multiples={"avx2": 16, "avx512f": 16},
            oci={"architecture": "amd64"},
        ),
        Architecture(
            name="aarch64",
            machine="aarch64|arm64",
            features={
                "neon": "asimd",
                "fp16": "asimdhp",
                "dotprod": "asimddp",
                "i8mm": "i8mm",
                "bf16": "bf16",
                "sve": "sve",
            },
            flags_key="features",
            kernel_flags=(
                *("asimd", "asimdhp", "asimdrdm", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16"),
                *("sme", "sme2"),
            ),
            int8_dot=frozenset({"dotprod", "i8mm"}),
            # QNNPACK's q8gemm is 4x8 and 8x8; XNNPACK's qs8-gemm has an ``nr`` of 8 or 16
            channel_multiples={"neon": 8},
            oci={"architecture": "arm64", "variant": "v8"},
        ),
        Architecture(
            name="armv7",
            machine="armv.*",
            features={"neon": "neon", "vfpv4": "vfpv4"},
            flags_key="features",
            kernel_flags=("neon", "vfpv4"),
            channel_multiples={"neon": 8},
            oci={"architecture": "arm", "variant": "v7"},
        ),
    )
}


def architecture_of(uname: str) -> Architecture | None:
    """The architecture of a machine by what ``uname -m`` prints on it; None for one that edgec does not know."""
    matching = (item for item in ARCHITECTURES.values() if re.fullmatch(item.machine, uname.lower()))
    return next(matching, None)
