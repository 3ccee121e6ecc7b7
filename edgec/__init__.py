"""edgec: an ahead-of-time compiler from trained PyTorch or ONNX models to verified edge bundles.

`edgec.build` builds a bundle, as the ``edgec build`` command does. Importing edgec imports no framework.
"""

from __future__ import annotations

from edgec.build.api import Bundle, build  # from here on `edgec.build` is the function, not the package

__all__ = ["Bundle", "build"]
