"""The interface of the locations that bundles are published to, and the records that it uses.

Publishing sends files first and writes the index that names them last, in one step: a reader sees the old build or the
new build. Pulling reads the index once (`Store.read`); the index fixes the digests of all files, so that later changes
at the location cannot mix builds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgec.bundle.files import BundleFile
from edgec.errors import PublishError
from edgec.frozen import Frozen
from edgec.workers.worker import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from edgec.bundle.manifest import Manifest


class NothingPublishedError(PublishError):
    """The location answers, and nothing is published there."""


@dataclass(frozen=True)
class LocalBundle:
    """A bundle to publish; its digests have been checked."""

    path: Path
    manifest: Manifest
    files: tuple[BundleFile, ...]
    """The files to publish, in order of name."""
    offer: str = ""
    """Its signed entry of the index (`edgec.publish.offer`); empty: it is not signed."""

    @property
    def target(self) -> str:
        """Name of its target, under which it is published."""
        return self.manifest.target.name


class RemoteBundle(Frozen):
    """A bundle as a location describes it. Untrusted until `edgec.publish.untrusted.check_remote_bundle` accepts it."""

    target: str
    files: tuple[BundleFile, ...]
    offer: str = ""
    """Its signed entry of the index; empty: it is not signed."""


@dataclass(frozen=True)
class ByteStream:
    """The bytes of a file as they arrive from a location."""

    start: int
    """Position in the file of the first byte: the requested one, or 0 where the location supports no other."""
    chunks: Iterator[bytes]
    """Pieces of some MiB at most. Raises `edgec.publish.transfer.TransientError` when the connection breaks."""
    hint: str = "the location is damaged or was tampered with: publish the bundle again there"
    """For the message when the digest is wrong."""


@dataclass(frozen=True)
class PublishResult:
    """The outcome of publishing."""

    reference: str
    """Argument of `edgec pull` for exactly this build; the location where there are no such references."""
    targets: tuple[str, ...]
    """All targets that the location names now, in order of name."""
    sent: int
    """Files (folder) or blobs that were sent."""
    sent_bytes: int
    kept: int
    """Files or blobs that were not sent, because the location had them."""
    changed: bool
    """False when the location had the index and all files."""
    notes: tuple[str, ...] = ()
    """What the user should know, one line each."""


class Snapshot(Protocol):
    """The content of a location as it was when its index was read."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of its targets, in order."""

    def bundle(self, target: str) -> RemoteBundle:
        """The bundle of one of `targets`.

        Raises:
            PublishError, CredentialsError: it cannot be read, or does not match the index.
        """

    def open(self, target: str, file: BundleFile, start: int) -> AbstractContextManager[ByteStream]:
        """Read a file of ``bundle(target)``; the caller checks the digest.

        Args:
            target: one of `targets`.
            file: of the bundle.
            start: first byte that is wanted.

        Raises:
            TransientError: the connection failed; another attempt may succeed.
            PublishError, CredentialsError: the location does not have the file or refuses it.
        """


class Store(Protocol):
    """A location that bundles are published to and pulled from.

    Both methods retry after connection errors, as the store's `RetryPolicy` allows.
    """

    def publish(self, bundles: Sequence[LocalBundle], *, add: bool, progress: Progress) -> PublishResult:
        """Send the files that are missing, then make the index name exactly `bundles`.

        Args:
            bundles: at least one; their targets differ.
            add: keep other targets, also those that another publisher adds at the same time.
            progress: receives each step.

        Raises:
            PublishError, CredentialsError, StorageError: it failed; the index is as before.
            BundleError: a file changed while it was sent.
        """

    def read(self, progress: Progress) -> Snapshot:
        """Read the index.

        Raises:
            NothingPublishedError: it has no index.
            PublishError, CredentialsError: it cannot be read.
        """
