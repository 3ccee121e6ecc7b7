"""torch's fused attention, which no exporter and no tracer can express, switched off for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def attention_in_parts() -> Iterator[None]:
    """Make ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` compute by their parts.

    The fused path has no ONNX op, and looks at its layers' weights in ways that quantized ones do not answer.
    """
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
