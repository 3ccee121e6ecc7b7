"""The file of a CI job, written from a template for one project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgec.errors import UsageError
from edgec.storage.files import storage_errors, write_atomically

Kind = Literal["github", "gitlab", "make"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TEMPLATES = Path(__file__).parent / "templates"

_PLAIN = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*\Z")
"""Folders that need no quoting in a shell, in Make and between quotes in YAML."""
_PATTERN = re.compile(r"[A-Za-z0-9._*?!\[\]-]+\Z")
"""Names and globs of targets that need no escaping in a shell's quotes within YAML."""


@dataclass(frozen=True)
class Template:
    """The template for one kind of CI."""

    source: str
    """Name in `TEMPLATES`."""
    path: str
    """Path of the written file, from the root of the repository or, for Make, of the project."""
    of_repository: bool
    todo: tuple[str, ...]
    """The next steps of the user."""


ENVIRONMENT = "edgec-publish"
"""Environment of the publishing job, which holds its secrets."""
_KEY = "a key to sign with: edgec keygen"
_COMMIT = "commit edgec.pub beside edgec.toml, and what is published must be signed with it to be compared with"

TABLE: dict[Kind, Template] = {
    "github": Template(
        "github.yml",
        ".github/workflows/edgec.yml",
        of_repository=True,
        todo=(
            f"{_KEY}; put the text of edgec.key into the secret EDGEC_SIGNING_KEY of an environment {ENVIRONMENT}, "
            "to which only tags v* may deploy",
            _COMMIT,
            "published to oci://ghcr.io/OWNER/REPOSITORY/bundles; the variable EDGEC_PUBLISH names another location",
            "limits of the comparison: the variable EDGEC_FAIL_ON (accuracy=0.5,latency=10%,size=5%)",
            "publish with a tag: git tag v1.0 && git push origin v1.0",
        ),
    ),
    "gitlab": Template(
        "gitlab.yml",
        ".gitlab-ci.yml",
        of_repository=True,
        todo=(
            f"{_KEY}; put the text of edgec.key into EDGEC_SIGNING_KEY, a protected CI/CD variable of type File and "
            f"of the environment scope {ENVIRONMENT}: with another scope, jobs that run the project's code have it",
            _COMMIT,
            "published to this project's container registry; the variable EDGEC_PUBLISH names another location",
            "limits of the comparison: the variable EDGEC_FAIL_ON (accuracy=0.5,latency=10%,size=5%)",
            "publish with a protected tag: git tag v1.0 && git push origin v1.0",
        ),
    ),
    "make": Template(
        "Makefile",
        "Makefile",
        of_repository=False,
        todo=(
            _KEY,
            "build and hold to gates: make -j2 dist",
            "compare with what is published, too: make ci PUBLISH=oci://HOST/REPOSITORY",
            "sign and publish, too: make publish PUBLISH=oci://HOST/REPOSITORY KEY=edgec.key TAG=1.0",
        ),
    ),
}


def write_ci(
    kind: Kind, root: Path, *, patterns: Sequence[str], names: Sequence[str], version: str, force: bool
) -> Path:
    """Write the file of one kind of CI and return its path.

    Args:
        kind: the kind of CI.
        root: folder of edgec.toml.
        patterns: targets to build, as the user names them; none: those of edgec.toml.
        names: the targets that `patterns` match; valid names.
        version: of edgec that the job installs.
        force: replace an existing file.

    Raises:
        UsageError: the file exists, or the project's folder or a pattern has characters that CI files cannot have.
        StorageError: it cannot be written.
    """
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise UsageError(
                "targets in a CI file may have letters, digits and .-_*?![] only",
                where=f"--target {pattern}",
            )
    template = TABLE[kind]
    repository = _repository(root) if template.of_repository else root
    path = repository / template.path
    if (path.exists() or path.is_symlink()) and not force:
        raise UsageError("the file exists already", where=str(path), hint="replace it with --force")
    text = render(kind, folder_in(repository, root), patterns=patterns, names=names, version=version)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path


def render(kind: Kind, folder: str, *, patterns: Sequence[str], names: Sequence[str], version: str) -> str:
    """The text of a file.

    Args:
        kind: the kind of CI.
        folder: of the project, from the root of its repository.
        patterns, names, version: as in `write_ci`.
    """
    text = (TEMPLATES / TABLE[kind].source).read_text(encoding="utf-8")
    values = {
        "FOLDER": folder,
        "PREFIX": "" if folder == "." else f"{folder}/",
        "LIST": ", ".join(f'"{name}"' for name in names),
        "NAMES": " ".join(names),
        "TARGETS": shlex.join(word for pattern in patterns for word in ("--target", pattern)) or "--of-build",
        "VERSION": version,
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def folder_in(repository: Path, root: Path) -> str:
    """The project's folder as a path from the repository's root.

    Raises:
        UsageError: it has characters that CI files cannot have.
    """
    folder = root.resolve().relative_to(repository.resolve()).as_posix()
    if not _PLAIN.match(folder):
        raise UsageError(
            "the folder in a CI file may have letters, digits and ._- only", where=folder, hint="rename the folder"
        )
    return folder


def _repository(root: Path) -> Path:
    """The nearest folder above that is a git repository, else the project's folder."""
    resolved = root.resolve()
    return next((folder for folder in (resolved, *resolved.parents) if (folder / ".git").exists()), root)
