"""The backend object for torch on x86-64. Importing this module imports no framework."""

from edgec.backends.fbgemm.capability import CAPABILITIES
from edgec.backends.torch_quant.base import TorchBackend

BACKEND = TorchBackend(name="fbgemm", arch="x86_64", engines=("fbgemm", "x86", "onednn"), capabilities=CAPABILITIES)
