"""Branches that an export freezes: the exporter runs the code once, and writes down what it did then."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


@contextmanager
def frozen_branches() -> Iterator[list[str]]:
    """Collect where the exporter turns values into constants that the user's code decides by, with what it says."""
    from torch.jit._trace import TracerWarning

    branches: list[str] = []

    def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        place = _user_line(sys._getframe(1)) if issubclass(category, TracerWarning) else ""
        branch = f"{place}: {str(message).splitlines()[0]}"
        if place and branch not in branches:
            branches.append(branch)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield branches


def _user_line(frame: FrameType | None) -> str:
    """``net.py:12`` when the code that runs is the user's; empty when it is torch's or edgec's."""
    import torch

    from edgec.model.plain_ops import PlainOps

    while frame is not None and frame.f_code.co_filename == warnings.__file__:
        frame = frame.f_back
    if frame is not None and frame.f_code is PlainOps.__torch_function__.__code__:
        frame = frame.f_back  # every call of the user's code comes through here
    place = frame.f_code.co_filename if frame is not None else ""
    if frame is None or place.startswith((str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")):
        return ""
    return f"{Path(place).name}:{frame.f_lineno}"
