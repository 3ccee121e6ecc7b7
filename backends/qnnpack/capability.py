"""What torch's quantized kernels do on 64-bit ARM, as a table."""

from edgec.backends.torch_quant.capability import CAPABILITIES

__all__ = ["CAPABILITIES"]
