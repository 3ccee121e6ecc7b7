"""From a location to bundles under ``<out>``: each is received, checked and put in place whole, or not at all.

Files are received into ``<out>/.work/pull/<sha256>``, where they stay when a pull ends early: the next one goes on with
them after checking them again. A bundle's own digests, and with keys its signature, are checked in a private folder
before it gets its name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from edgec.bundle.check import read_bundle
from edgec.bundle.files import BundleFile, bundle_files
from edgec.bundle.manifest import MANIFEST
from edgec.bundle.write import bundle_lock, publish_folder, refuse_foreign, refuse_within, stage, storage_errors
from edgec.errors import BundleError, PublishError, SignatureError
from edgec.publish.location import Location
from edgec.publish.store import RemoteBundle, Snapshot
from edgec.publish.stores import open_store
from edgec.publish.transfer import RetryPolicy, TransientError, copy_checked, download, matches_files, read_pieces
from edgec.publish.untrusted import check_remote_bundle
from edgec.target.select import choose
from edgec.workers.worker import Progress

READINGS = 3
"""Times that a target is tried when the location changes meanwhile."""
_UNSIGNED = "nothing was put in place; ask whoever published it, or pull what you trust by its digest"
_SPOILED = "it was not as its manifest says when it was published, or was tampered with: do not use it"


@dataclass(frozen=True)
class PulledBundle:
    """What became of one target."""

    target: str
    path: Path
    changed: bool
    """False when exactly this bundle was there already."""
    key: str
    """Id of the key that its signature was checked with; empty without ``--key``."""


def pull(
    location: Location,
    patterns: Sequence[str],
    out: Path,
    *,
    keys: Sequence[Path] = (),
    policy: RetryPolicy | None = None,
    progress: Progress = lambda step: None,
) -> Iterator[PulledBundle]:
    """Bring bundles from `location` to ``<out>/<target>``; gives each as it is in place.

    Args:
        location: where they were published.
        patterns: names and globs of targets.
        out: folder for bundles; others in it are left alone.
        keys: public keys, with one of which each bundle must be signed.
        policy: how long to wait, how often to try.
        progress: told each step.

    Raises:
        UsageError: `out` is a bundle, or in one.
        TargetError: the location has no such target.
        PublishError, CredentialsError: it cannot be read, or does not have what its index says.
        BundleError, SignatureError: a bundle is not what its manifest or its signature says.
        StorageError: it cannot be written here.
    """
    out, policy = out.absolute(), policy or RetryPolicy()
    refuse_within(out)
    if keys:
        from edgec.bundle.provenance.keys import public_keys

        public_keys(keys)  # a key that cannot be used is told before anything is fetched
    store = open_store(location, policy)
    progress(f"read the index of {location}")
    snapshot = store.read(progress)
    names = choose(patterns, snapshot.targets, f"targets there: {', '.join(snapshot.targets) or 'none'}")
    for name in names:
        refuse_foreign(out / name)
    with _only_pull(out, progress) as cache:
        for name in names:
            for left in reversed(range(READINGS)):
                offer = snapshot.bundle(name)
                try:
                    yield _Pull(location, snapshot, offer, out, cache, keys, policy, progress).run()
                    break
                except TransientError:
                    raise
                except PublishError:
                    fresh = store.read(progress)
                    if not left or name not in fresh.targets or fresh.bundle(name) == offer:
                        raise
                    snapshot = fresh
                    progress(f"{name}: the location changed meanwhile: read it again")
        _forget(cache)


@dataclass(frozen=True)
class _Pull:
    """One target of a pull."""

    location: Location
    snapshot: Snapshot
    offer: RemoteBundle
    out: Path
    cache: Path
    keys: Sequence[Path]
    policy: RetryPolicy
    progress: Progress

    def run(self) -> PulledBundle:
        where = f"{self.location}: {self.offer.target}"
        check_remote_bundle(self.offer, str(self.location))
        destination = self.out / self.offer.target
        with bundle_lock(destination), stage(self.out) as staged:
            refuse_foreign(destination)
            if matches_files(destination, self.offer.files):
                return PulledBundle(self.offer.target, destination, changed=False, key=self._verified(destination))
            with _retold(where):
                self._fill(staged, where)
                key = self._verified(staged)
            publish_folder(staged, destination)
        return PulledBundle(self.offer.target, destination, changed=True, key=key)

    def _fill(self, staged: Path, where: str) -> None:
        """Receive all files; the manifest first, so that a wrong one costs no download."""
        target = self.offer.target
        for file in sorted(self.offer.files, key=lambda file: file.name != MANIFEST):
            cached = download(
                file,
                lambda start, file=file: self.snapshot.open(target, file, start),  # type: ignore[misc]
                self.cache,
                self.policy,
                lambda step: self.progress(f"{target}: {step}"),
            )
            with storage_errors(self.out):
                _place(cached, file, staged / file.name)
            if file.name == MANIFEST:
                self._check_manifest(staged, where)
        if bundle_files(staged) != self.offer.files:
            raise BundleError("files of the bundle are not those that the index says", hint=_SPOILED)

    def _check_manifest(self, staged: Path, where: str) -> None:
        manifest = read_bundle(staged)
        if manifest.target.name != self.offer.target:
            what = f"the index says {self.offer.target}, its manifest {manifest.target.name}"
            raise PublishError(what, where=where, hint=_SPOILED)
        offered = {file.name: (file.sha256, file.size) for file in self.offer.files}
        for name, record in sorted(manifest.files.items()):
            if offered.get(name) != (record.sha256, record.size):
                raise PublishError(f"index and manifest disagree about {name!a}", where=where, hint=_SPOILED)

    def _verified(self, bundle: Path) -> str:
        if not self.keys:
            return ""
        from edgec.bundle.provenance.verify import verify_signature

        return verify_signature(bundle, self.keys).key


def _place(cached: Path, file: BundleFile, to: Path) -> None:
    """Put a received file into a bundle: by a link where no other bundle has it, so that it is not copied."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if cached.stat().st_nlink == 1:
        with contextlib.suppress(OSError):  # a file system without links
            os.link(cached, to)
            return
    with cached.open("rb") as stream:
        copy_checked(read_pieces(stream), file, to)


@contextmanager
def _retold(where: str) -> Iterator[None]:
    """Name the location instead of the private folder that a bundle is checked in."""
    try:
        yield
    except (BundleError, SignatureError) as exc:
        hint = _SPOILED if isinstance(exc, BundleError) else _UNSIGNED
        raise type(exc)(exc.what, where=where, hint=hint) from exc


@contextmanager
def _only_pull(out: Path, progress: Progress) -> Iterator[Path]:
    """Be the only pull into `out`; where its received files are kept."""
    with storage_errors(out):
        (out / ".work").mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".work" / "pull.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"another pull into {out} is at work: wait for it")
            lock.acquire()
    try:
        yield out / ".work" / "pull"
    finally:
        lock.release()


def _forget(cache: Path) -> None:
    """Remove what earlier pulls left, now that all is in place."""
    with contextlib.suppress(OSError):
        for file in cache.iterdir():
            if file.is_file() or file.is_symlink():
                file.unlink()
        cache.rmdir()
