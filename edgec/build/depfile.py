"""The Make dependency file of a build: what each bundle's manifest depends on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edgec.plan.plan import Plan
from edgec.project.imports import neighbours
from edgec.project.load import PROJECT_FILE, split_entry
from edgec.project.spec import Project
from edgec.storage.files import write_atomically


def dependencies(
    project: Project, root: Path, target_files: Iterable[Path], *, calibrated: bool, trained: bool
) -> tuple[Path, ...]:
    """Every file that a bundle is made from: model, weights, data, metric, target, device, edgec.toml.

    Folders of data stand for themselves and for every file below them.

    Args:
        project: what is built, with paths relative to `root`.
        root: the project's folder.
        target_files: the target's own file, those it extends, its device's.
        calibrated: whether the target uses calibration data.
        trained: whether its ladder has a rung that trains.
    """
    named = [project.model.path, project.model.weights]
    for data in (project.calibration if calibrated else None, project.evaluation, project.train if trained else None):
        if data is not None:
            named.append(data.data)
            beside = Path(data.data).parent / data.labels if data.labels else None
            if beside and (root / beside).is_file():
                named.append(str(beside))
    if calibrated and project.calibration is not None:
        named += project.calibration.more
    entries = [project.evaluation.metric] if project.evaluation else []
    if trained and project.train:
        entries += [project.train.loss, project.train.function or ""]
    named += [entry for entry in entries if split_entry(entry)]
    paths = [root / PROJECT_FILE] if (root / PROJECT_FILE).exists() else []
    for name in named:
        if name is not None:
            entry = split_entry(name)
            path = root / (entry[0] if entry else name)
            paths += [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
            paths += neighbours(path) if entry else ()
    paths += list(target_files)
    unique = {os.path.relpath(path): None for path in paths}
    return tuple(Path(path) for path in unique)


def dependencies_of(plan: Plan, root: Path, imported: Iterable[str]) -> tuple[Path, ...]:
    """Every file that the bundle of a plan is made from.

    Args:
        plan: what was built.
        root: the project's folder.
        imported: files that the model imports, relative to `root`.
    """
    trained = any(rung.name == "training" for item in plan.emits for rung in item.ladder)
    files = (*plan.target_files, *(root / file for file in imported))
    return dependencies(plan.project, root, files, calibrated=plan.calibration_samples is not None, trained=trained)


def write_depfile(file: Path, rules: Iterable[tuple[Path, Iterable[Path]]]) -> None:
    """Write (manifest, its dependencies) rules atomically, with an empty rule per dependency.

    The empty rules (as GCC's ``-MP``) keep Make going when a dependency has been deleted or renamed.
    """
    lines, seen = ["EDGEC_EQUALS := ="], {}
    for manifest, needed in rules:
        paths = [_escape(os.path.relpath(path)) for path in needed]
        # Make knows the manifest by the name its rule has, which may be either
        names = dict.fromkeys((_escape(os.path.relpath(manifest)), _escape(str(manifest.absolute()))))
        lines.append(f"{' '.join(names)}: {' '.join(paths)}")
        seen.update(dict.fromkeys(paths))
    lines += [f"{path}:" for path in seen]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, "\n".join(lines) + "\n")


def _escape(text: str) -> str:
    for special in ("\\", " ", "#", ":", "%", "*", "?", "[", "~"):
        text = text.replace(special, "\\" + special)
    return text.replace("$", "$$").replace("=", "$(EDGEC_EQUALS)")  # "a: b=c" would set a variable
