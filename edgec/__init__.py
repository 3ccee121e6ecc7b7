"""edgec: an ahead-of-time compiler from trained PyTorch or ONNX models to verified edge bundles.

`edgec.build` builds a bundle, as the ``edgec build`` command does. Importing edgec imports no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgec.assemble import Bundle, build

__all__ = ["Bundle", "build"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("edgec.assemble"), name)
    raise AttributeError(f"module 'edgec' has no attribute {name!r}")
