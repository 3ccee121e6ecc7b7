"""Machines in the words of device files, and which devices they stand for."""

import os
import subprocess
import sys

import pytest

from edgec.machine import Isa, Machine, Platform, describe, describe_isa, host_isa, host_machine, matches
from edgec.publish.oci.records import platform_of
from edgec.target.architecture import ARCHITECTURES, Architecture
from edgec.target.spec import Device

PI4 = """processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
PI5 = PI4.replace("0xd08", "0xd0b").replace("cpuid", "cpuid asimdhp asimddp")
PI3 = "model name\t: ARMv7\nFeatures\t: half thumb neon vfpv4\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n"
HASWELL = "vendor_id\t: GenuineIntel\nmodel name\t: Intel Core\nflags\t\t: sse4_2 avx avx2 fma f16c\n"
ICELAKE = HASWELL.replace("f16c", "f16c avx512f avx512bw avx512vl avx512_vnni")


@pytest.mark.parametrize(
    ("uname", "cpuinfo", "arch", "cpu", "features"),
    [
        ("aarch64", PI4, "aarch64", "cortex-a72", ("neon",)),
        ("aarch64", PI5, "aarch64", "cortex-a76", ("dotprod", "fp16", "neon")),
        ("armv7l", PI3, "armv7", "cortex-a53", ("neon", "vfpv4")),
        ("x86_64", HASWELL, "x86_64", "Intel Core", ("avx", "avx2", "f16c", "fma", "sse4.2")),
        ("riscv64", "", "riscv64", "unknown", ()),
    ],
)
def test_describe(uname, cpuinfo, arch, cpu, features):
    assert describe(uname, cpuinfo, 4) == Machine(arch=arch, cpu=cpu, features=features, cores=4)


def test_a_new_architecture_is_a_row(monkeypatch):
    row = Architecture(
        name="riscv64", machine="riscv64", features={"v": "v"}, flags_key="isa", kernel_flags=("v",),
        channel_multiples={"v": 16}, oci={"architecture": "riscv64"},
    )  # fmt: skip
    monkeypatch.setitem(ARCHITECTURES, "riscv64", row)
    machine = describe("riscv64", "isa\t\t: rv64imafdc v\n", 4)
    assert machine == Machine(arch="riscv64", cpu="unknown", features=("v",), cores=4)
    assert describe_isa("riscv64", "isa\t\t: rv64imafdc v\n", "DEFAULT", {}).features == ("v",)
    assert matches(board := device("riscv64", "unknown", "v"), machine)
    assert (board.channel_multiple, platform_of(board).architecture) == (16, "riscv64")
    with pytest.raises(ValueError, match="no such feature of riscv64; known: v"):
        device("riscv64", "unknown", "avx2")


def test_this_machine():
    machine = host_machine()
    assert machine.cores >= 1
    if machine.arch in ARCHITECTURES:
        assert set(machine.features) <= ARCHITECTURES[machine.arch].features.keys()


def device(arch: str, cpu: str, *isa: str) -> Device:
    facts = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")
    return Device.model_validate(
        {"name": "d", "description": "", "arch": arch, "triple": "t", "cpu": cpu, "isa": frozenset(isa), "cores": 1,
         "ram_mb": 1, "sources": dict.fromkeys(facts, "test")}
    )  # fmt: skip


def test_a_machine_stands_for_devices_of_its_kind_only():
    pi4, pi5 = describe("aarch64", PI4, 4), describe("aarch64", PI5, 4)
    avx2, vnni = describe("x86_64", HASWELL, 4), describe("x86_64", ICELAKE, 4)
    small = device("x86_64", "haswell", "avx2", "fma")
    big = device("x86_64", "icelake-server", "avx2", "avx512f", "avx512-vnni")
    assert matches(device("aarch64", "cortex-a72", "neon"), pi4)
    assert not matches(device("aarch64", "cortex-a72", "neon"), pi5)
    assert not matches(device("aarch64", "cortex-a76", "neon", "dotprod"), pi4)
    assert matches(small, avx2)
    assert not matches(small, vnni)
    assert matches(big, vnni)
    assert not matches(big, avx2)
    assert not matches(big, pi5)


@pytest.mark.parametrize(
    ("uname", "cpuinfo", "features"),
    [
        ("aarch64", PI4, ("asimd",)),
        ("aarch64", PI5, ("asimd", "asimdhp", "asimddp")),
        ("armv7l", PI3, ("neon", "vfpv4")),
        ("AMD64", ICELAKE, ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni")),
        ("riscv64", "", ()),
    ],
)
def test_what_kernels_are_chosen_by(uname, cpuinfo, features):
    found = describe_isa(uname, cpuinfo, "AVX2", {"HOME": "/root", "ATEN_CPU_CAPABILITY": ""})
    assert (found.features, found.torch, found.limits) == (features, "AVX2", ())


def test_cores_and_the_name_of_the_cpu_are_no_part_of_it():
    assert describe_isa("x86_64", HASWELL, "AVX2", {}) == describe_isa(
        "x86_64", HASWELL.replace("Intel Core", "Intel Xeon"), "AVX2", {}
    )
    machine = Machine(arch="x86_64", cpu="one", features=("avx2",), cores=2)
    assert machine.platform() == Platform(arch="x86_64", features=("avx2",))
    assert machine.model_copy(update={"cpu": "other", "cores": 64}).platform() == machine.platform()


def test_limits_of_the_environment_are_told():
    assert describe_isa("x86_64", ICELAKE, "AVX512", {}).words().startswith("x86_64 GenuineIntel sse4_2 avx ")
    found = describe_isa("x86_64", ICELAKE, "AVX2", {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE"})
    assert found.limits == ("ATEN_CPU_CAPABILITY=avx2", "MKL_CBWR=COMPATIBLE")
    assert found.words().endswith("avx512_vnni torch=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE")


def test_torch_is_asked_what_it_uses():
    code = "from edgec.machine import host_isa; print(host_isa().model_dump_json())"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ATEN_CPU_CAPABILITY": "default"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    lowered = Isa.model_validate_json(told.stdout)
    assert lowered.torch == ("DEFAULT" if lowered.arch == "x86_64" else lowered.torch)
    assert "ATEN_CPU_CAPABILITY=default" in lowered.limits
    assert lowered.features == host_isa().features
