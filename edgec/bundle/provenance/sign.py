"""Signing of a bundle: its bill of materials, and signed statements about all its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from edgec.bundle.check import read_bundle, refuse_incomplete
from edgec.bundle.files import bundle_files
from edgec.bundle.manifest import (
    ATTESTATIONS,
    MANIFEST,
    MEASUREMENTS,
    SBOM,
    Accuracy,
    Manifest,
    Measurements,
    accuracy_of,
    without_times,
)
from edgec.bundle.provenance.accuracy import ACCURACY, accuracy_claim
from edgec.bundle.provenance.bom import bill_of_materials
from edgec.bundle.provenance.envelope import seal
from edgec.bundle.provenance.slsa import LOCAL_BUILDER, PROVENANCE, provenance
from edgec.bundle.provenance.statement import Statement
from edgec.bundle.write import digest_file
from edgec.errors import BundleError, UsageError, printable
from edgec.frozen import Frozen, first_problem
from edgec.storage.files import storage_errors, write_atomically
from edgec.storage.temporary import sweep
from edgec.verify.records import GateResult

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signed(Frozen):
    """A signed bundle."""

    keys: tuple[str, ...]
    """Ids of the keys."""
    files: int
    """Files that the signatures cover."""


def sign_bundle(
    path: Path,
    keys: Mapping[str, Ed25519PrivateKey],
    builder: str = LOCAL_BUILDER,
    *,
    allow_incomplete: bool = False,
) -> Signed:
    """Sign a bundle with all of `keys`; earlier signatures are replaced.

    The same bundle, keys and builder give the same bytes. The statements are the last file that is written, so that an
    interrupted signing leaves no valid signature.

    Args:
        path: folder of the bundle; its digests are checked first.
        keys: private keys by their id.
        builder: URI of the builder, for the provenance.
        allow_incomplete: sign it also when it lacks artifacts of its target; the accuracy statement records this.

    Raises:
        BundleError: it is not a bundle, was changed after it was built, or its figures are not what was measured.
        IncompleteError: it lacks artifacts.
        UsageError: `builder` is not a URI.
        StorageError: it cannot be written.
    """
    if not urlsplit(builder).scheme:
        hint = "give an absolute URI, e.g. https://ci.example.org/edgec"
        raise UsageError(f'the builder "{builder}" is not a URI', hint=hint)
    manifest = read_bundle(path, as_written=True)
    if not allow_incomplete:
        refuse_incomplete(path, manifest, "it is not signed")
    _check_figures(path, manifest)
    sweep(path, ".")  # of a signing that was killed
    subjects = {file.name: file.sha256 for file in bundle_files(path) if file.name not in (SBOM, ATTESTATIONS)}
    _write(path / SBOM, bill_of_materials(manifest, subjects[MANIFEST]))
    subjects[SBOM] = digest_file(path / SBOM).sha256
    statements = (
        Statement(PROVENANCE, subjects, provenance(manifest, builder)),
        Statement(ACCURACY, subjects, accuracy_claim(manifest)),
    )
    _write(path / ATTESTATIONS, "".join(f"{seal(item.to_bytes(), keys)}\n" for item in statements))
    return Signed(keys=tuple(sorted(keys)), files=len(subjects))


def _check_figures(path: Path, manifest: Manifest) -> None:
    """Refuse a bundle whose manifest has another accuracy, or other gates, than follow from its measurements."""
    file, hint = path / MEASUREMENTS, "build it again with: edgec build"
    try:
        measured = Measurements.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as exc:
        problem = (exc.strerror or str(exc)).lower() if isinstance(exc, OSError) else first_problem(exc)
        what = f"it is not signed: what was measured cannot be read: {problem}"
        raise BundleError(what, where=str(file), hint=hint) from exc
    accuracy = tuple(map(accuracy_of, measured.measurements))
    gates = tuple(map(without_times, measured.gates))
    for name, places in (
        ("figures of accuracy", _differing(manifest.accuracy, accuracy)),
        ("gates", _differing(manifest.gates, gates)),
    ):
        if places:
            what = f"it is not signed: the {name} in {MANIFEST} are not what {MEASUREMENTS} gives for {places}"
            raise BundleError(what, where=str(path), hint=hint)


def _differing(stated: Sequence[Accuracy | GateResult], follows: Sequence[Accuracy | GateResult]) -> str:
    """Artifacts and runtimes whose records differ, for messages; empty: all are the same, in the same order."""
    pairs = [pair for pair in zip_longest(stated, follows) if pair[0] != pair[1]]
    places = [next(f"{one.artifact} in {one.runtime}" for one in pair if one is not None) for pair in pairs]
    return printable(", ".join(dict.fromkeys(places)))


def _write(file: Path, text: str) -> None:
    """Replace a file; its mode does not depend on the umask."""
    write_atomically(file, text)
    with storage_errors(file):
        file.chmod(0o644)
