"""Records that worker tasks of any kind answer."""

from __future__ import annotations

from edgec.frozen import Frozen


class Done(Frozen):
    """The answer of a task that returns nothing."""
