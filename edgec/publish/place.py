"""What a place has had: keeps bundles of another model, and older versions, from being pulled to it unnoticed.

Names and versions are those of manifests. The newest version of each name is also recorded in the user's folder, so
that a bundle that was removed is not forgotten (TUF has clients do so: theupdateframework.github.io/specification,
5.4.3).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version
from pydantic import ValidationError

from edgec.bundle.check import read_bundle
from edgec.bundle.manifest import MANIFEST, Manifest
from edgec.errors import BundleError, PublishError, SignatureError, StorageError, printable
from edgec.frozen import Frozen, first_problem
from edgec.project.spec import VersionText
from edgec.storage.files import storage_errors, write_atomically

STATE_VARIABLE = "XDG_STATE_HOME"
_ANOTHER = f"set {STATE_VARIABLE} to a folder of your own"
_LARGEST = 1 << 20
"""Bytes of a record at most."""


class Accepted(Frozen):
    """Which bundles may be pulled to a place."""

    manifest: str = ""
    """SHA-256 (hex) of the manifest of the only one; empty: any."""
    replace_model: bool = False
    """Also one of another name than what is or was there."""
    allow_downgrade: bool = False
    """Also one with an older version than the newest of its name that was there, or without one."""


class Record(Frozen):
    """What was pulled to a place, kept in the user's folder."""

    place: str
    """Its path, for people."""
    name: str
    """Of the bundle that was pulled last."""
    versions: dict[str, VersionText]
    """The newest version of each name."""
    signed: bool = False
    """Whether the index that the last one was pulled from with a key was signed."""


@dataclass(frozen=True)
class Place:
    """Where the bundle of a target is pulled to, and what has been there."""

    path: Path
    present: Manifest | None
    """Of the bundle that is there; None where there is none, or none that can be read."""
    record: Record | None
    """None where nothing with a name was pulled there."""

    def refuse_mix_up(self, new: Manifest, accepted: Accepted, where: str) -> None:
        """Refuse a bundle of another name, or one older than the newest of its name that has been there.

        Args:
            new: manifest of the bundle.
            accepted: what is accepted all the same.
            where: the bundle comes from, for the message.

        Raises:
            PublishError: it is refused.
        """
        present = (self.present.name, self.present.version) if self.present else ("", None)
        names = [name for name in (present[0], self.record.name if self.record else "") if name and name != new.name]
        if names and not accepted.replace_model:
            what = f"it is {new.title}, and this is the place of {names[0]}: {self.path}"
            raise PublishError(
                what, where=where, hint="nothing was changed: pull it to another folder, or give --replace-model"
            )
        versions = [present[1] if present[0] == new.name else None]
        versions.append(self.record.versions.get(new.name) if self.record else None)
        newest = max(filter(None, versions), key=Version, default=None)
        if newest is None or accepted.allow_downgrade:
            return
        if new.version is None or Version(new.version) < Version(newest):
            older = f"has no version, and {newest}" if new.version is None else f"is older than {newest}, which"
            what = f"{new.title} {older} has been in its place: {self.path}"
            raise PublishError(
                what, where=where, hint="nothing was changed: ask the publisher, or give --allow-downgrade"
            )

    def refuse_unsigned(self, accepted: Accepted, where: str) -> None:
        """Refuse an index without a signature, where the last one had one.

        Raises:
            SignatureError: it is refused.
        """
        if self.record and self.record.signed and not accepted.allow_downgrade:
            what = f"the index is not signed, and the one before was, for {self.path}"
            hint = "nothing was changed: ask the publisher, or give --allow-downgrade"
            raise SignatureError(what, where=where, hint=hint)

    def remember(self, new: Manifest, *, signed: bool | None) -> None:
        """Record a bundle that is about to be put there.

        Args:
            new: its manifest.
            signed: whether the index is; None: its signature was not checked.

        Raises:
            StorageError: the record cannot be written.
        """
        if not new.name:
            return  # an earlier edgec built it
        versions = dict(self.record.versions) if self.record else {}
        signed = signed if signed is not None else bool(self.record and self.record.signed)
        versions.pop(new.name, None)
        if new.version is not None:
            versions[new.name] = new.version
        record = Record(place=printable(str(self.path)), name=new.name, versions=versions, signed=signed)
        if record == self.record:
            return
        file = _record_file(self.path)
        try:
            with storage_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(file, record.model_dump_json(indent=1) + "\n")
        except StorageError as exc:
            what = f"the record of pulled versions: {exc.what}"
            raise StorageError(what, where=exc.where, hint=_ANOTHER) from exc


def read_place(path: Path) -> Place:
    """What is at `path`, and what was recorded of it.

    Args:
        path: of a bundle that may be there.

    Raises:
        StorageError: bundle or record cannot be read, or the record is damaged.
    """
    present = None
    if (path / MANIFEST).is_file():
        try:
            present = read_bundle(path)
        except BundleError:
            present = None  # the record still holds
    return Place(path, present, _read_record(_record_file(path)))


def _read_record(file: Path) -> Record | None:
    try:
        with file.open("rb") as stream:
            return Record.model_validate_json(stream.read(_LARGEST))
    except FileNotFoundError:
        return None
    except OSError as exc:
        what = f"the record of pulled versions cannot be read: {(exc.strerror or str(exc)).lower()}"
        raise StorageError(what, where=str(file), hint=_ANOTHER) from exc
    except ValidationError as exc:
        what = f"the record of pulled versions is damaged: {first_problem(exc)}"
        raise StorageError(what, where=str(file), hint="remove it: then any version may be pulled once") from exc


def _record_file(path: Path) -> Path:
    """``edgec/pulled/<digest of the path>.json`` in ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    try:
        base = Path(os.environ.get(STATE_VARIABLE) or Path.home() / ".local" / "state")
    except RuntimeError:  # this user has no home, as in some containers
        what = "there is no folder for the record of pulled versions: this user has no home"
        raise StorageError(what, hint=_ANOTHER) from None
    place = path.parent.resolve() / path.name
    return base / "edgec" / "pulled" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()}.json"
