"""What a bundle was made from, as its manifest tells it: files, data and packages."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.bundle.manifest import Manifest
from edgec.dataset.spool import SpoolInfo
from edgec.project.load import PROJECT_FILE

SAMPLES_DIGEST = "edgecSamplesV1"
"""Name of the digest of a data set: SHA-256 over the input specs, and all samples' digests and labels, in order
(`edgec.dataset.spool.write_index`), in hexadecimal digits. It does not depend on the file that samples came from."""


@dataclass(frozen=True)
class SourceFile:
    """A file that a build read."""

    role: str
    """``model``, ``weights``, ``imported``, ``project`` (edgec.toml) or ``code`` (of metric, loss and training)."""
    name: str
    """As the user named it, in the project's folder."""
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """Samples that a build read."""

    role: str
    """``calibration``, ``evaluation`` or ``training``."""
    info: SpoolInfo


@dataclass(frozen=True)
class Package:
    """Software that made or judged the bundle."""

    name: str
    version: str
    purl: str
    """Package URL (github.com/package-url/purl-spec)."""


def source_files(manifest: Manifest) -> tuple[SourceFile, ...]:
    """Files of the model and the project, the model first."""
    source = manifest.source
    found = [SourceFile("model", source.path, source.sha256)]
    if source.weights is not None and source.weights_sha256 is not None:
        found.append(SourceFile("weights", source.weights, source.weights_sha256))
    found += [SourceFile("imported", name, digest) for name, digest in sorted(source.imported.items())]
    if manifest.project.sha256:
        found.append(SourceFile("project", PROJECT_FILE, manifest.project.sha256))
    found += [SourceFile("code", name, digest) for name, digest in sorted(manifest.project.code.items())]
    return tuple(found)


def data_sets(manifest: Manifest) -> tuple[DataSet, ...]:
    """Data that was calibrated with, judged on and trained with."""
    sets = {"calibration": manifest.calibration, "evaluation": manifest.evaluation, "training": manifest.training}
    return tuple(DataSet(role, info) for role, info in sets.items() if info is not None)


def packages(manifest: Manifest) -> tuple[Package, ...]:
    """edgec, Python, and the distributions of the toolchain; needs the packages of the extra ``sign``."""
    from packageurl import PackageURL

    generic = ("edgec", "python")  # edgec is on no index, and what is called so there would be another's
    versions = {"edgec": manifest.edgec, **manifest.toolchain}
    found = []
    for name in (*generic, *sorted(set(versions) - set(generic))):
        if name in versions:
            kind = "generic" if name in generic else "pypi"
            purl = PackageURL(type=kind, name=name, version=versions[name]).to_string()
            found.append(Package(name, versions[name], purl))
    return tuple(found)
