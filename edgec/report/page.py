"""Renders pages from templates: one file each, without references to other files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

NOT_MEASURED = "-"


def render_page(template: Path, **values: Any) -> str:
    """A template filled with `values`; all text in them is escaped.

    Args:
        template: file; it may include templates of its own folder and of this one.
        values: its variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, kib=_kib, shape=_shape)
    return environment.get_template(template.name).render(**values)


def number(value: float | None, digits: int = 2) -> str:
    """Format a number; None: `NOT_MEASURED`. Equal outputs have an infinite SQNR."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.{digits}f}" if math.isfinite(value) else f"{value:g}".replace("inf", "∞")


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
