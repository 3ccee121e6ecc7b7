"""What torch's quantized kernels do on x86-64, as a table."""

from edgec.backends.torch_quant.capability import CAPABILITIES

__all__ = ["CAPABILITIES"]
