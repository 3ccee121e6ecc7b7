"""Reads edgec.toml: reports every wrong key, and uses the others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.check.records import Finding, finding_of
from edgec.errors import ProjectError
from edgec.project.load import PROJECT_FILE, FlagValues, no_project, with_flags
from edgec.project.spec import Project
from edgec.toml_source import BYTE_ORDER_MARK, KeyPath, TomlSource, marked, parse_toml, read_toml_text, validated

_ROUNDS = 20
"""Rounds of removing wrong keys: pydantic reports more once others are right."""


def read_project(root: Path, given: FlagValues) -> tuple[Project, list[Finding]]:
    """The project in `root` with flags on top and without wrong keys, and a finding for each of these."""
    path = root / PROJECT_FILE
    findings: list[Finding] = []
    values: Mapping[str, Any] = {}
    if path.exists():
        source, findings = _read(path)
        values, more = _right(source, source.values)
        findings += more
    elif ("model", "path") not in given:
        findings.append(finding_of(no_project(root), "project"))
    merged = with_flags(values, given, root, Path.cwd()) if given else dict(values)
    line = TomlSource(Path("command line"), merged, {})
    merged, more = _right(line, merged)
    project, _ = validated(Project, line, merged)
    return project or Project(), findings + more


def _read(path: Path) -> tuple[TomlSource, list[Finding]]:
    findings = []
    try:
        text = read_toml_text(path, ProjectError)
        if text.startswith(BYTE_ORDER_MARK):
            findings.append(finding_of(marked(path, ProjectError), "project"))
        return parse_toml(path, text.removeprefix(BYTE_ORDER_MARK), ProjectError), findings
    except ProjectError as error:
        return TomlSource(path, {}, {}), [*findings, finding_of(error, "project")]


def _right(source: TomlSource, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """The valid values of a project, and findings about the others."""
    values: dict[str, Any] = copy.deepcopy(dict(given))
    findings: list[Finding] = []
    for _ in range(_ROUNDS):
        project, problems = validated(Project, source, values)
        if project is not None:
            return values, findings
        for problem in problems:
            error = ProjectError(problem.what, where=problem.place)
            findings.append(finding_of(error, "project"))
            _drop(values, problem.key)
    return {}, findings


def _drop(values: dict[str, Any], key: KeyPath) -> None:
    """Remove a key; where it does not exist, the nearest table that does."""
    for length in range(len(key), 0, -1):
        holder: Any = values
        for part in key[: length - 1]:
            try:
                holder = holder[part]
            except (KeyError, IndexError, TypeError):
                holder = None
                break
        if isinstance(holder, dict) and key[length - 1] in holder:
            del holder[key[length - 1]]
            return
    values.clear()
