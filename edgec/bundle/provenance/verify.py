"""Verification that each file of a bundle is as the holder of a key signed it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM, SUMS
from edgec.bundle.provenance.accuracy import ACCURACY
from edgec.bundle.provenance.envelope import open_envelope, signers
from edgec.bundle.provenance.keys import public_keys
from edgec.bundle.provenance.slsa import PROVENANCE
from edgec.bundle.provenance.statement import Statement, read_statement
from edgec.bundle.write import digest_file, is_result
from edgec.errors import SignatureError, printable
from edgec.frozen import Frozen

_LARGEST = 1 << 24
"""Bytes of attestations at most; a bundle has about ten thousand."""
_KINDS = (PROVENANCE, ACCURACY)
"""Predicate types of the statements, in their order."""
_HINT = "do not use this bundle: get it again from its signer"


class Verified(Frozen):
    """The result of a verification."""

    key: str
    """Id of the key that signed it: SHA-256 of the public key, as `edgec keygen` prints it."""
    target: str
    """Name of the target that the signed provenance states."""
    files: int
    """Files that the signature covers."""


def verify_signature(path: Path, keys: Sequence[Path]) -> Verified:
    """Check that every file of a bundle is as one of `keys` signed it, and that there are no other files.

    Results that the harness wrote on a device (``bench/result*.json``) may be unsigned. A payload is parsed only after
    its signature has been verified.

    Args:
        path: folder of the bundle.
        keys: public keys (PEM files); one of them must have signed all statements of the bundle.

    Raises:
        SignatureError: the bundle is not signed with one of these keys, or was changed.
        BackendUnavailableError: the packages of the extra ``sign`` are not installed.
    """
    known = public_keys(keys)
    statements: list[Statement] = []
    signed = frozenset(known)
    for number, (line, kind) in enumerate(zip(_lines(path), _KINDS, strict=True), 1):
        where = f"{path / ATTESTATIONS}, line {number}"
        try:
            payload, by = open_envelope(line, known)
        except ValueError as exc:
            raise SignatureError(f"the signature is invalid: {exc}", where=where, hint=_HINT) from exc
        try:
            statement = read_statement(payload)
        except ValueError as exc:
            raise SignatureError(f"the signed payload is not a statement: {exc}", where=where, hint=_HINT) from exc
        if statement.predicate_type != kind:
            what = f"the signed statement is {statement.predicate_type}, not {kind}"
            raise SignatureError(what, where=where, hint=_HINT)
        signed &= by
        statements.append(statement)
    first = statements[0]
    if not signed or any(statement.subjects != first.subjects for statement in statements):
        what = "the statements do not belong together: they name different files, or have different signers"
        raise SignatureError(what, where=str(path / ATTESTATIONS), hint=_HINT)
    _check_files(path, first.subjects)
    return Verified(key=min(signed), target=_target(path, first.predicate), files=len(first.subjects))


def claimed_signers(path: Path) -> tuple[str, ...]:
    """Ids of the keys that a bundle claims signatures by; none when it is not signed. Nothing is verified.

    Raises:
        SignatureError: the attestations are damaged.
    """
    if not os.path.lexists(path / ATTESTATIONS):
        return ()
    try:
        return tuple(dict.fromkeys(key for line in _lines(path) for key in signers(line)))
    except ValueError as exc:
        raise SignatureError(
            f"the attestations are damaged: {exc}", where=str(path / ATTESTATIONS), hint=_HINT
        ) from exc


def _lines(path: Path) -> list[bytes]:
    """The envelopes of a bundle, one for each of `_KINDS`."""
    file = path / ATTESTATIONS
    if not path.is_dir():
        what = "a bundle is a folder, this is a file" if path.exists() else "the bundle does not exist"
        raise SignatureError(what, where=str(path), hint="name a folder that edgec build wrote, e.g. dist/rpi4-int8")
    if not os.path.lexists(file):
        hint = f"sign it with: edgec sign {path} --key FILE"
        raise SignatureError(f"the bundle is not signed: {ATTESTATIONS} is missing", where=str(path), hint=hint)
    if not stat.S_ISREG(file.lstat().st_mode):
        raise SignatureError("this is not a regular file", where=str(file), hint=_HINT)
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST)
    except OSError as exc:
        raise SignatureError(f"the attestations cannot be read: {exc.strerror or exc}", where=str(file)) from exc
    lines = content.split(b"\n")
    if len(lines) != len(_KINDS) + 1 or lines[-1]:
        what = f"the attestations are damaged: there are not {len(_KINDS)} complete lines"
        raise SignatureError(what, where=str(file), hint=_HINT)
    return lines[:-1]


def _check_files(path: Path, subjects: Mapping[str, str]) -> None:
    present = _present(path)
    wrong = [f"{name}: not covered by the signature" for name in (MANIFEST, SUMS, SBOM) if name not in subjects]
    for name, digest in sorted(subjects.items()):
        if name not in present:
            wrong.append(f"{name}: missing")
        elif not present[name]:
            wrong.append(f"{name}: not a regular file")
        elif _digest(path / name) != digest:
            wrong.append(f"{name}: changed")
    for name, regular in sorted(present.items()):
        if name not in subjects and name != ATTESTATIONS and not (regular and is_result(name)):
            wrong.append(f"{name}: not signed")
    if wrong:
        what = "the bundle does not match its signature: " + printable("; ".join(wrong))
        raise SignatureError(what, where=str(path), hint=_HINT)


def _digest(file: Path) -> str:
    try:
        return digest_file(file).sha256
    except OSError as exc:
        raise SignatureError(f"cannot be read: {exc.strerror or exc}", where=printable(str(file))) from exc


def _present(path: Path) -> dict[str, bool]:
    """Name of each file below `path` -> whether it is a regular file."""
    present: dict[str, bool] = {}

    def refuse(exc: OSError) -> None:
        raise SignatureError(f"cannot be read: {exc.strerror or exc}", where=printable(str(exc.filename)))

    for folder, folders, files in os.walk(path, onerror=refuse):
        for name in (*folders, *files):
            item = Path(folder, name)
            mode = item.lstat().st_mode
            if not stat.S_ISDIR(mode):
                present[item.relative_to(path).as_posix()] = stat.S_ISREG(mode)
    return present


def _target(path: Path, predicate: Mapping[str, Any]) -> str:
    """``buildDefinition.externalParameters.target.name`` of the provenance."""
    value: Any = predicate
    for key in ("buildDefinition", "externalParameters", "target", "name"):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise SignatureError("the signed provenance has no target", where=str(path / ATTESTATIONS), hint=_HINT)
    return value
