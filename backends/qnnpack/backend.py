"""The backend object for torch on 64-bit ARM. Importing this module imports no framework."""

from edgec.backends.qnnpack.capability import CAPABILITIES
from edgec.backends.torch_quant.base import TorchBackend

BACKEND = TorchBackend(name="qnnpack", arch="aarch64", engines=("qnnpack",), capabilities=CAPABILITIES)
