"""The CPU instructions that torch computes with."""

from __future__ import annotations


def torch_capability() -> str:
    """``AVX512``, ``AVX2``, ``SVE256``, ``DEFAULT``...; the environment variable ATEN_CPU_CAPABILITY may lower it."""
    import torch

    return torch.backends.cpu.get_cpu_capability()
