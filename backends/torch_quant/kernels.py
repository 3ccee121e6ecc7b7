"""Which of torch's x86 kernels add pairs of products in 16 bits, where 8-bit weights overflow; which are fast.

Measured against exact integer convolutions, with the largest activations and weights there are (torch 2.13, and
oneDNN held to AVX2). Dynamic quantization is not affected: its activations have 7 bits already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    pass

ReducedRange = Literal["auto", "yes", "no"]
X86_TO_ONEDNN = 100
"""Engine ``x86`` hands convolutions of at most so many groups to oneDNN where there is VNNI, all else to fbgemm."""


TRANSPOSED = frozenset({"qnnpack"})
"""Engines whose kernels of transposed convolutions are right. Those of fbgemm and oneDNN are for some shapes, and for
others compute something else without a word: 32 to 16 channels, kernel 2, stride 2 have an SQNR of -0.1 dB."""


def saturates(engine: str, vnni: bool, module: Any) -> bool:
    """Whether int16 can overflow in `engine`'s kernel of float layer `module` (a convolution or Linear).

    Args:
        engine: kernel library.
        vnni: whether the device has int8 dot products.
        module: a convolution or Linear, in float.
    """
    groups: int = getattr(module, "groups", 1)
    depthwise = groups > 1 and groups == module.in_channels
    if engine == "qnnpack":
        return False
    if engine == "onednn" or (engine == "x86" and vnni and groups <= X86_TO_ONEDNN):
        # it pairs input channels, of which a depthwise group has one
        return not vnni and not depthwise
    # fbgemm's depthwise kernels have no VNNI form
    return not vnni or depthwise


LARGE = 16_000_000
"""Multiplications of an inference from which oneDNN's kernels are faster than fbgemm's, where there is VNNI.

Measured on AVX-512 VNNI, one thread (ratio of oneDNN's time to fbgemm's): DS-CNN of 2.7 million 1.26, small plain and
depthwise nets of 2.5 and 2.9 million 1.5 and 1.06; of 37 and 39 million 0.86 and 0.86, of 150 and 320 million 0.79
and 0.79, EfficientNet-Lite0 of 385 million 0.75. Without VNNI nothing was measured.
"""


def fastest_first(engines: Sequence[str], multiplications: int, vnni: bool) -> tuple[str, ...]:
    """The engines (given with the fastest for small models first) in the order of their speed.

    Args:
        engines: the fastest for small models first.
        multiplications: of one inference.
        vnni: whether the device has int8 dot products.
    """
    return tuple(reversed(engines)) if vnni and multiplications >= LARGE else tuple(engines)
