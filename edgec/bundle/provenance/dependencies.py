"""The inputs of a bundle as its manifest records them: files, data and packages."""

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
    """Software that built or evaluated the bundle."""

    name: str
    version: str
    purl: str
    """Package URL (github.com/package-url/purl-spec)."""


def source_files(manifest: Manifest) -> tuple[SourceFile, ...]:
    """Files of the model and the project, the model first."""
    source = manifest.source
    files = [SourceFile("model", source.path, source.sha256)]
    if source.weights is not None and source.weights_sha256 is not None:
        files.append(SourceFile("weights", source.weights, source.weights_sha256))
    files += [SourceFile("imported", name, digest) for name, digest in sorted(source.imported.items())]
    if manifest.project.sha256:
        files.append(SourceFile("project", PROJECT_FILE, manifest.project.sha256))
    files += [SourceFile("code", name, digest) for name, digest in sorted(manifest.project.code.items())]
    return tuple(files)


def data_sets(manifest: Manifest) -> tuple[DataSet, ...]:
    """The data of calibration, evaluation and training."""
    sets = {"calibration": manifest.calibration, "evaluation": manifest.evaluation, "training": manifest.training}
    return tuple(DataSet(role, info) for role, info in sets.items() if info is not None)


def packages(manifest: Manifest) -> tuple[Package, ...]:
    """edgec, Python, and the distributions of the toolchain; needs the packages of the extra ``sign``."""
    from packageurl import PackageURL

    generic = ("edgec", "python")  # edgec is not on PyPI; a package of this name there would be another
    versions = {"edgec": manifest.edgec, **manifest.toolchain}
    listed = []
    for name in (*generic, *sorted(set(versions) - set(generic))):
        if name in versions:
            kind = "generic" if name in generic else "pypi"
            purl = PackageURL(type=kind, name=name, version=versions[name]).to_string()
            listed.append(Package(name, versions[name], purl))
    return tuple(listed)
