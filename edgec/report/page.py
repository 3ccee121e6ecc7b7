"""Renders pages from templates: one file each, without references to other files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from edgec.errors import printable_lines
from edgec.report.numbers import number


def render_page(template: Path, **values: Any) -> str:
    """A template filled with `values`; all text in them is escaped.

    Args:
        template: file; it may include templates of its own folder and of this one.
        values: its variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, kib=_kib, shape=_shape)
    return environment.get_template(template.name).render(**values)


def _shown(value: Any) -> Any:
    """Strings of models and projects without what would change how a page reads, such as U+202E."""
    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
