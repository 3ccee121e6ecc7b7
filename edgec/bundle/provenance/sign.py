"""Signing a bundle: its bill of materials, and statements about all of its files under the signatures of keys."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgec.bundle.check import read_bundle, refuse_incomplete
from edgec.bundle.files import bundle_files
from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM
from edgec.bundle.provenance.accuracy import ACCURACY, accuracy_claim
from edgec.bundle.provenance.bom import bill_of_materials
from edgec.bundle.provenance.envelope import seal
from edgec.bundle.provenance.slsa import LOCAL_BUILDER, PROVENANCE, provenance
from edgec.bundle.provenance.statement import Statement
from edgec.bundle.write import digest_file
from edgec.errors import UsageError
from edgec.frozen import Frozen
from edgec.storage.files import storage_errors, write_atomically

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
    """Sign the bundle in folder `path` with all of `keys`, in place of earlier signatures.

    The same bundle, keys and builder give the same bytes. A bundle that is signed is not trusted while this runs:
    the statements are the last file that is written.

    Args:
        path: the bundle; its digests are checked first.
        keys: private keys by their id.
        builder: URI of who built it, for the provenance.
        allow_incomplete: sign it also when it lacks artifacts of its target, which its accuracy statement then says.

    Raises:
        BundleError: this is no bundle, or not as it was built.
        IncompleteError: it lacks artifacts.
        UsageError: `builder` is no URI.
        StorageError: it cannot be written.
    """
    if not urlsplit(builder).scheme:
        hint = "an absolute one, e.g. https://ci.example.org/edgec"
        raise UsageError(f'the builder is a URI, and "{builder}" is none', hint=hint)
    manifest = read_bundle(path)
    if not allow_incomplete:
        refuse_incomplete(path, manifest, "it is not signed")
    for name in (SBOM, ATTESTATIONS):
        for left in path.glob(f".{name}-*/"):  # of a signing that was killed
            shutil.rmtree(left, ignore_errors=True)
    subjects = {file.name: file.sha256 for file in bundle_files(path) if file.name not in (SBOM, ATTESTATIONS)}
    _write(path / SBOM, bill_of_materials(manifest, subjects[MANIFEST]))
    subjects[SBOM] = digest_file(path / SBOM).sha256
    statements = (
        Statement(PROVENANCE, subjects, provenance(manifest, builder)),
        Statement(ACCURACY, subjects, accuracy_claim(manifest)),
    )
    _write(path / ATTESTATIONS, "".join(f"{seal(item.to_bytes(), keys)}\n" for item in statements))
    return Signed(keys=tuple(sorted(keys)), files=len(subjects))


def _write(file: Path, text: str) -> None:
    """Replace a file; as all files of a bundle, it has the same mode whatever the umask."""
    write_atomically(file, text)
    with storage_errors(file):
        file.chmod(0o644)
