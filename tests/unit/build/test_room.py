"""Memory that there is room in is that of the kernel and of all control groups above."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.build.room import available_mb, room_on_cores

GIB = 1 << 30


def write(file: Path, text: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    write(tmp_path / "proc" / "meminfo", "MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB")
    return tmp_path


def test_what_the_kernel_can_free_counts(system: Path) -> None:
    assert available_mb(system) == 8192
    assert 0 < available_mb() < 1 << 24


@pytest.mark.parametrize(("limit", "told"), [(3 * GIB, 2560), ("max", 8192), (GIB // 2, 0)])
def test_version_2(system: Path, limit: object, told: int) -> None:
    write(system / "proc" / "self" / "cgroup", "0::/a/b")
    group = system / "sys" / "fs" / "cgroup" / "a"
    write(group / "memory.max", limit)
    write(group / "memory.current", GIB)
    write(group / "memory.stat", f"anon 1\ninactive_file {0 if limit == GIB // 2 else GIB // 2}")
    write(group / "b" / "memory.max", "max")
    write(group / "b" / "memory.current", GIB)
    assert available_mb(system) == told


@pytest.mark.parametrize("path", ["/a", "/path/of/the/host"])
def test_version_1(system: Path, path: str) -> None:
    write(system / "proc" / "self" / "cgroup", f"5:cpu:/a\n4:memory:{path}\n0::/")
    group = system / "sys" / "fs" / "cgroup" / "memory" / ("a" if path == "/a" else "")
    write(group / "memory.limit_in_bytes", 5 * GIB)
    write(group / "memory.usage_in_bytes", GIB)
    assert available_mb(system) == 4096
    write(group / "memory.limit_in_bytes", (1 << 63) - 4096)  # no limit
    assert available_mb(system) == 8192


def test_one_job_has_room_always() -> None:
    assert room_on_cores(10_000) == 1
