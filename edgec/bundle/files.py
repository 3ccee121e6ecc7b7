"""The files of a bundle that leave this machine: what is signed, and what is published."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgec.bundle.check import check_digests
from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, MEASUREMENTS, REPORT, SBOM
from edgec.bundle.write import digest_file
from edgec.errors import BundleError
from edgec.frozen import Frozen

BESIDE = (MANIFEST, MEASUREMENTS, REPORT, SBOM, ATTESTATIONS)
"""Files of a bundle that its manifest does not list."""


class BundleFile(Frozen):
    """One file of a bundle."""

    name: str
    """Path in the bundle, with forward slashes."""
    sha256: str
    """64 lower-case hexadecimal digits."""
    size: int
    """Bytes."""


def bundle_files(path: Path) -> tuple[BundleFile, ...]:
    """Every file that belongs to the bundle in folder `path`, after checking its digests; in order of name.

    What the harness wrote on a device (``bench/result*.json``) is not among them.

    Raises:
        BundleError: as `edgec.bundle.check.check_digests`, or a file beside the manifest is not a regular file.
    """
    records = dict(check_digests(path).files)
    for name in BESIDE:
        file = path / name
        if not os.path.lexists(file):
            continue
        if not stat.S_ISREG(file.lstat().st_mode):
            raise BundleError("this is not a regular file", where=str(file), hint="build it again with: edgec build")
        records[name] = digest_file(file)
    return tuple(
        BundleFile(name=name, sha256=record.sha256, size=record.size) for name, record in sorted(records.items())
    )
