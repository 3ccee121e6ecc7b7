"""torch's process-global switches, set for a while and put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgec.errors import UnsupportedError


@contextlib.contextmanager
def running(engine: str, threads: int) -> Iterator[None]:
    """Quantized kernels of `engine`, `threads` threads within an op, and no gradients.

    Raises:
        UnsupportedError: this build of torch does not have the engine.
    """
    import torch

    if engine not in torch.backends.quantized.supported_engines:
        raise UnsupportedError(
            f'this build of torch has no quantized engine "{engine}"',
            hint=f"it has {', '.join(torch.backends.quantized.supported_engines)}",
        )
    before_engine, before_threads = torch.backends.quantized.engine, torch.get_num_threads()
    torch.backends.quantized.engine = engine
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.quantized.engine = before_engine
        torch.set_num_threads(before_threads)
