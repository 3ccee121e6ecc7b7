"""Reading a bundle and checking that it is what its manifest says."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from edgec.bundle.manifest import MANIFEST, SCHEMA, FileRecord, Manifest
from edgec.bundle.names import name_problem
from edgec.bundle.write import digest_file, is_digested
from edgec.errors import BundleError, IncompleteError, StorageError, printable
from edgec.frozen import as_text, first_problem

_REBUILD = "build it again with: edgec build"
MAX_MANIFEST = 64 << 20
"""Bytes of a manifest: it is parsed, for which memory is needed."""


def read_bundle(path: Path, *, as_written: bool = False) -> Manifest:
    """The manifest of the bundle in folder `path`; its files are not looked at.

    Strings of a manifest are data: a terminal, a page or a table may get any of them, so what cannot be printed is
    escaped in all of them. A name with an escape is not the name of a file.

    Args:
        path: the bundle's folder.
        as_written: leave all strings as they are in the file: for its digests, not for people.

    Raises:
        BundleError: this is not a bundle, its manifest is damaged, or a newer edgec wrote it.
        StorageError: it cannot be read.
    """
    file = path / MANIFEST
    if not path.is_dir():
        what = "there is no such folder" if not path.exists() else "a bundle is a folder, this is a file"
        raise BundleError(what, where=str(path), hint="name a folder that edgec build wrote, e.g. dist/rpi4-int8")
    if not file.is_file():
        raise BundleError(
            f"this is not a bundle, or not a complete one: it has no {MANIFEST}", where=str(path), hint=_REBUILD
        )
    try:
        if file.stat().st_size > MAX_MANIFEST:
            raise ValueError(f"it has more than {MAX_MANIFEST} bytes")
        content = json.loads(file.read_bytes())
        content = content if as_written else as_text(content)
    except OSError as exc:
        raise StorageError(f"the manifest cannot be read: {exc.strerror or exc}", where=str(file)) from exc
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"the manifest cannot be read: {exc}", where=str(file), hint=_REBUILD) from exc
    if not isinstance(content, dict) or content.get("kind") != "edgec bundle":
        raise BundleError("this is not the manifest of an edgec bundle", where=str(file), hint=_REBUILD)
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA:
        raise BundleError(
            f"a newer edgec wrote this bundle (schema {version}, this edgec reads {SCHEMA})",
            where=str(file),
            hint=f"use edgec {printable(str(content.get('edgec', 'of that version')))} or later",
        )
    if isinstance(version, int) and version < SCHEMA:
        what = f"an older edgec wrote this bundle (schema {version}, this edgec reads {SCHEMA})"
        raise BundleError(what, where=str(file), hint=_REBUILD)
    try:
        return Manifest.model_validate_json(json.dumps(content))
    except ValidationError as exc:
        raise BundleError(f"the manifest is damaged: {first_problem(exc)}", where=str(file), hint=_REBUILD) from exc


def incomplete(path: Path, manifest: Manifest) -> IncompleteError:
    """The error of a bundle that lacks artifacts of its target."""
    gaps = [f"{gap.subject} ({gap.state}: {gap.reason})" for gap in manifest.missing]
    return IncompleteError(
        printable(f"the bundle lacks {', '.join(gaps)}"),
        where=str(path),
        hint="mend what failed and build again, or remove that artifact from the target",
    )


def refuse_incomplete(path: Path, manifest: Manifest, why: str) -> None:
    """Raise IncompleteError when a bundle lacks artifacts of its target.

    Args:
        path: its folder.
        manifest: of it.
        why: it matters, as the beginning of the message.
    """
    if not manifest.complete:
        error = incomplete(path, manifest)
        hint = f"{error.hint}; or give --allow-incomplete"
        raise IncompleteError(f"{why}: {error.what}", where=error.where, hint=hint)


def check_digests(path: Path) -> Manifest:
    """The manifest of a bundle whose files are all there, unchanged, and no others are.

    Raises:
        BundleError: as `read_bundle`, or a file is missing, changed, unexpected, or leads out of the bundle.
    """
    manifest = read_bundle(path)
    wrong: list[str] = []
    for name, record in sorted(manifest.files.items()):
        try:
            problem = _problem(path, name, record)
        except OSError as exc:
            problem = f"cannot be read: {(exc.strerror or str(exc)).lower()}"
        wrong += [f"{name}: {problem}"] * bool(problem)
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if name in manifest.files or (file.is_dir() and not file.is_symlink()):
            continue
        if file.is_symlink():
            wrong.append(f"{name}: is a symbolic link")
        elif is_digested(name):
            wrong.append(f"{name}: unexpected")
    for item in manifest.artifacts:
        listed = manifest.files.get(item.artifact.file)
        if listed is None or listed.sha256 != item.sha256:
            wrong.append(f"{item.artifact.file}: the manifest contradicts itself")
    if wrong:
        problems = printable("; ".join(wrong))
        raise BundleError(f"the bundle is not as it was built: {problems}", where=str(path), hint=_REBUILD)
    return manifest


def _problem(path: Path, name: str, record: FileRecord) -> str:
    """How a file differs from what the manifest of the bundle in `path` says of it; nothing when it does not."""
    file = path / name
    if problem := name_problem(name):
        return problem
    if _through_link(path, name):
        return "is a symbolic link"
    if not file.is_file():
        return "missing"
    if (size := file.stat().st_size) != record.size:
        return f"changed ({size} bytes, not {record.size})"
    return "changed" if digest_file(file).sha256 != record.sha256 else ""


def _through_link(path: Path, name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any((path / Path(*parts[: end + 1])).is_symlink() for end in range(len(parts)))
