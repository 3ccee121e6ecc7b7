"""Pull bundles from a location to ``<out>``: each appears complete and checked, or not at all.

Files are downloaded to ``<out>/.work/pull/<sha256>``, where they stay when a pull is interrupted: the next one checks
them and continues. A bundle's own digests, and with keys its signature, are checked in a private folder before it gets
its name.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgec.bundle.check import read_bundle
from edgec.bundle.files import BundleFile, bundle_files
from edgec.bundle.manifest import MANIFEST, Manifest
from edgec.bundle.write import digest_file, publish_folder, refuse_foreign, refuse_within
from edgec.errors import BundleError, PublishError, SignatureError, UsageError
from edgec.publish.location import Location
from edgec.publish.offer import check_offer
from edgec.publish.place import Accepted, Place, read_place
from edgec.publish.store import RemoteBundle, Snapshot
from edgec.publish.stores import open_store
from edgec.publish.transfer import RetryPolicy, TransientError, copy_checked, download, matches_files, read_pieces
from edgec.publish.untrusted import check_remote_bundle
from edgec.storage.files import storage_errors
from edgec.storage.guard import guarded
from edgec.storage.staging import destination_lock, stage
from edgec.target.select import choose
from edgec.workers.worker import Progress

ATTEMPTS = 3
"""Attempts to pull a target from a location that changes in the meantime."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSIGNED = "nothing was installed: ask the publisher, or pull a build that you trust by its digest"
_INVALID = "it did not match its manifest when it was published, or was tampered with: do not use it"


@dataclass(frozen=True)
class PulledBundle:
    """A bundle that was pulled."""

    target: str
    path: Path
    changed: bool
    """False when exactly this bundle existed already."""
    key: str
    """Id of the key that signed it; empty when no keys were given."""
    title: str
    """Its name and version."""


def pull(
    location: Location,
    patterns: Sequence[str],
    out: Path,
    *,
    keys: Sequence[Path] = (),
    accepted: Accepted | None = None,
    policy: RetryPolicy | None = None,
    progress: Progress = lambda step: None,
) -> Iterator[PulledBundle]:
    """Pull bundles from a location to ``<out>/<target>``, and yield each when it is complete.

    Args:
        location: to pull from.
        patterns: names and globs of targets.
        out: folder for bundles; its other content is not touched.
        keys: public keys; each bundle, and its entry of the index if that is signed, must be signed with one of them.
            Empty: signatures are not checked.
        accepted: which bundles may be pulled; by default those of the same name that are not older.
        policy: time-out and retries.
        progress: receives each step, and what replaces what: names, versions and digests of the manifests.

    Raises:
        UsageError: `out` is a bundle, or in one; the manifest in `accepted` is not a SHA-256, or of several targets.
        TargetError: the location has no such target.
        PublishError, CredentialsError: it cannot be read, does not match its index, or a bundle is not `accepted`.
        BundleError, SignatureError: a bundle does not match its manifest or its signature; with `keys` also: the index
            is signed by another key, has expired, or is not signed though the last one was.
        StorageError: `out` or the record of pulled versions cannot be written.
    """
    out, policy, accepted = out.absolute(), policy or RetryPolicy(), accepted or Accepted()
    refuse_within(out)
    if accepted.manifest and not _SHA256.fullmatch(accepted.manifest):
        hint = f"it is what sha256sum {MANIFEST} prints: 64 lower-case hexadecimal digits"
        raise UsageError(f'"{accepted.manifest}" is not a SHA-256', where="--expect-manifest", hint=hint)
    if keys:
        from edgec.bundle.provenance.keys import public_keys

        public_keys(keys)  # reports an invalid key before anything is downloaded
    store = open_store(location, policy)
    progress(f"read the index of {location}")
    snapshot = store.read(progress)
    names = choose(patterns, snapshot.targets, f"published targets: {', '.join(snapshot.targets) or 'none'}")
    if accepted.manifest and len(names) > 1:
        raise UsageError(f"one manifest is expected, of {len(names)} targets", hint="name one with --target")
    for name in names:
        refuse_foreign(out / name)
    with _locked_cache(out, progress) as cache:
        for name in names:
            for left in reversed(range(ATTEMPTS)):
                remote = snapshot.bundle(name)
                try:
                    yield _Pull(location, snapshot, remote, out, cache, keys, accepted, policy, progress).run()
                    break
                except TransientError:
                    raise
                except PublishError:
                    fresh = store.read(progress)
                    if not left or name not in fresh.targets or fresh.bundle(name) == remote:
                        raise
                    snapshot = fresh
                    progress(f"{name}: the location changed in the meantime: read it again")
        _clear(cache)


@dataclass(frozen=True)
class _Pull:
    """One target of a pull."""

    location: Location
    snapshot: Snapshot
    remote: RemoteBundle
    out: Path
    cache: Path
    keys: Sequence[Path]
    accepted: Accepted
    policy: RetryPolicy
    progress: Progress

    def run(self) -> PulledBundle:
        where = f"{self.location}: {self.remote.target}"
        check_remote_bundle(self.remote, str(self.location))
        manifest = next(file.sha256 for file in self.remote.files if file.name == MANIFEST)
        if self.accepted.manifest not in ("", manifest):
            what = f"its manifest is sha256:{manifest}, not sha256:{self.accepted.manifest} as expected"
            raise PublishError(what, where=where, hint="nothing was installed: ask the publisher which build is right")
        destination = self.out / self.remote.target
        with destination_lock(destination), stage(self.out) as staged:
            refuse_foreign(destination)
            place = read_place(destination)
            signed = self._signed(place, where)
            changed = not matches_files(destination, self.remote.files)
            if changed:
                with _name_location(where):
                    self._fill(staged, place, where)
                    key = self._verified(staged)
            else:
                key = self._verified(destination)
            new = read_bundle(staged if changed else destination)
            place.refuse_mix_up(new, self.accepted, where)
            place.remember(new, signed=signed)
            if changed:
                self._tell(place, new, manifest)
                publish_folder(staged, destination)
        return PulledBundle(self.remote.target, destination, changed=changed, key=key, title=new.title)

    def _signed(self, place: Place, where: str) -> bool | None:
        """Whether the index is signed; None without keys to check it with."""
        if not self.keys:
            return None
        signed = check_offer(self.remote, self.keys, where)
        if not signed:
            place.refuse_unsigned(self.accepted, where)
            self.progress(f"{self.remote.target}: the index is not signed: it may offer an older bundle")
        return signed

    def _tell(self, place: Place, new: Manifest, digest: str) -> None:
        if not (place.path / MANIFEST).is_file():
            return
        with storage_errors(place.path):
            old = digest_file(place.path / MANIFEST).sha256
        before = place.present.title if place.present else "a bundle that cannot be read"
        self.progress(f"{self.remote.target}: {before} is replaced by {new.title}, manifest {old} by {digest}")

    def _fill(self, staged: Path, place: Place, where: str) -> None:
        """Download all files; the manifest first, so that nothing else is downloaded if it is wrong."""
        target = self.remote.target
        for file in sorted(self.remote.files, key=lambda file: file.name != MANIFEST):
            cached = download(
                file,
                lambda start, file=file: self.snapshot.open(target, file, start),  # type: ignore[misc]
                self.cache,
                self.policy,
                lambda step: self.progress(f"{target}: {step}"),
            )
            with storage_errors(self.out):
                _link_or_copy(cached, file, staged / file.name)
            if file.name == MANIFEST:
                self._check_manifest(staged, where)
                place.refuse_mix_up(read_bundle(staged), self.accepted, where)
        if bundle_files(staged) != self.remote.files:
            raise BundleError("the files of the bundle are not those of the index", hint=_INVALID)

    def _check_manifest(self, staged: Path, where: str) -> None:
        manifest = read_bundle(staged)
        if manifest.target.name != self.remote.target:
            what = f"the index states the target {self.remote.target}, the manifest {manifest.target.name}"
            raise PublishError(what, where=where, hint=_INVALID)
        offered = {file.name: (file.sha256, file.size) for file in self.remote.files}
        for name, record in sorted(manifest.files.items()):
            if offered.get(name) != (record.sha256, record.size):
                raise PublishError(f"index and manifest disagree about {name!a}", where=where, hint=_INVALID)

    def _verified(self, bundle: Path) -> str:
        if not self.keys:
            return ""
        from edgec.bundle.provenance.verify import verify_signature

        return verify_signature(bundle, self.keys).key


def _link_or_copy(cached: Path, file: BundleFile, to: Path) -> None:
    """Put a downloaded file into a bundle: as a link where no other bundle has it, to save the copy."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if cached.stat().st_nlink == 1:
        with contextlib.suppress(OSError):  # a file system without links
            os.link(cached, to)
            return
    with cached.open("rb") as stream:
        copy_checked(read_pieces(stream), file, to)


@contextmanager
def _name_location(where: str) -> Iterator[None]:
    """Raise errors with the location instead of the private folder that a bundle is checked in."""
    try:
        yield
    except (BundleError, SignatureError) as exc:
        hint = _INVALID if isinstance(exc, BundleError) else _UNSIGNED
        raise type(exc)(exc.what, where=where, hint=hint) from exc


@contextmanager
def _locked_cache(out: Path, progress: Progress) -> Iterator[Path]:
    """Hold the lock of pulls to `out`; yields the folder of downloaded files."""
    with guarded(out / ".work" / "pull.lock", waiting=lambda: progress(f"wait for another pull to {out}")):
        yield out / ".work" / "pull"


def _clear(cache: Path) -> None:
    """Remove downloaded files, also those of earlier pulls."""
    with contextlib.suppress(OSError):
        for file in cache.iterdir():
            if file.is_file() or file.is_symlink():
                file.unlink()
        cache.rmdir()
