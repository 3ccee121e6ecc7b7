"""What torch's quantized kernels do on x86-64, as a table."""

from __future__ import annotations

from edgec.backends.interface import Capability
from edgec.backends.torch_quant import capability

_TRANSPOSED = Capability(
    op="conv-transpose2d",
    static_int8=False,
    dynamic_int8=False,
    note="stays float32: the x86 kernels compute something else for some shapes",
)

CAPABILITIES = tuple(_TRANSPOSED if item.op == _TRANSPOSED.op else item for item in capability.CAPABILITIES)
