"""Reads and checks the bundles that are validated, and chooses the artifacts to run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgec.backends.interface import Artifact
from edgec.bundle.check import check_digests
from edgec.bundle.manifest import Manifest
from edgec.errors import BundleError, UsageError, printable
from edgec.model.spec import TensorSpec
from edgec.project.spec import Preprocess
from edgec.toml_source import suggest
from edgec.verify.ranges import RangeRecord


@dataclass(frozen=True)
class Runnable:
    """One artifact of a bundle in one runtime."""

    artifact: Artifact
    file: Path
    runtime: str
    is_float: bool
    is_twin: bool = False
    """Whether it is the float twin, which is not an artifact of the target."""
    ranges: RangeRecord | None = None


@dataclass(frozen=True)
class Side:
    """One bundle."""

    name: str
    path: Path
    manifest: Manifest
    preprocess: Preprocess
    inputs: tuple[TensorSpec, ...]
    runnables: tuple[Runnable, ...]
    """The float twin first, where there is one; then artifacts in every runtime that their bundle was judged in."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that its evaluation set has, in the order of their numbers."""
        return self.manifest.evaluation.classes if self.manifest.evaluation else ()


def read_sides(paths: Sequence[Path], only: str | None = None) -> tuple[Side, ...]:
    """The bundles in these folders, all of whose digests are right.

    Args:
        paths: at least one.
        only: file of the one artifact to run of each; None: all.

    Raises:
        BundleError: a folder is not a bundle, was changed, or does not record the preprocessing of its samples.
        UsageError: no bundle has that artifact, or they take other inputs than the first.
    """
    names = [path.resolve().name for path in paths]
    sides = tuple(
        _read(path, name if names.count(name) == 1 else str(path), only)
        for path, name in zip(paths, names, strict=True)
    )
    first = sides[0]
    for side in sides[1:]:
        if side.inputs != first.inputs:
            what = f"it takes {_names(side.inputs)}, and {first.name} takes {_names(first.inputs)}"
            raise UsageError(what, where=str(side.path), hint="validate bundles of different models one by one")
    if only is not None and not any(item.artifact.file == only for side in sides for item in side.runnables):
        known = [item.artifact.file for side in sides for item in side.manifest.artifacts]
        hint = suggest(only, known) or f"artifacts: {', '.join(dict.fromkeys(known))}"
        raise UsageError(f'no bundle has an artifact "{only}"', where="--artifact", hint=hint)
    return sides


def _read(path: Path, name: str, only: str | None) -> Side:
    manifest = check_digests(path)
    if manifest.evaluation is None:
        raise BundleError("its manifest does not record the model's inputs", where=str(path), hint="build it again")
    stated = manifest.project.settings.get("preprocess")
    try:
        preprocess = Preprocess.model_validate_json(json.dumps(stated))
    except (ValidationError, TypeError, ValueError) as exc:
        what = f"its manifest does not record how samples are preprocessed: {printable(str(exc).splitlines()[0])}"
        raise BundleError(what, where=str(path), hint="use the edgec that built it, or build it again") from exc
    return Side(name, path, manifest, preprocess, manifest.evaluation.inputs, _runnables(path, manifest, only))


def _runnables(path: Path, manifest: Manifest, only: str | None) -> tuple[Runnable, ...]:
    runnables = []
    if twin := manifest.float_twin:
        if twin.artifact.file not in manifest.files:
            raise BundleError(f"{printable(twin.artifact.file)} is not among its files", where=str(path))
        runnables.append(Runnable(twin.artifact, path / twin.artifact.file, twin.runtime, is_float=True, is_twin=True))
    for item in manifest.artifacts:
        artifact = item.artifact
        is_float = artifact.precision == "fp32"
        if only in (None, artifact.file) or (is_float and not runnables):
            runnables += [
                Runnable(artifact, path / artifact.file, one.runtime, is_float, ranges=item.ranges)
                for one in manifest.accuracy
                if one.artifact == artifact.file and one.judged and not one.failure
            ]
    return tuple(runnables)


def _names(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{item.name} {item.dtype} {list(item.shape)}" for item in inputs)
