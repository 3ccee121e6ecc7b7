"""What every place of bundles can do, and what travels to and from it.

Publishing sends files first and makes an index name them last, in one step: whoever reads sees what was there before
or all that is new. Pulling reads the index once (`Store.read`); what it says of a target fixes the digests of all its
files, so nothing that changes at the location afterwards is taken for it.
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
    """A location answers, and has no index: nothing has been published there yet."""


@dataclass(frozen=True)
class LocalBundle:
    """A bundle to publish, complete and with digests checked."""

    path: Path
    manifest: Manifest
    files: tuple[BundleFile, ...]
    """Everything that is published of it, in order of name."""

    @property
    def target(self) -> str:
        """Name of its target, which is its name at the location."""
        return self.manifest.target.name


class RemoteBundle(Frozen):
    """A bundle as a location describes it. Untrusted until `edgec.publish.untrusted.check_remote_bundle` accepts it."""

    target: str
    files: tuple[BundleFile, ...]


@dataclass(frozen=True)
class ByteStream:
    """The bytes of a file as they arrive."""

    start: int
    """Where in the file they begin: what was asked for, or 0 where the location cannot begin anywhere else."""
    chunks: Iterator[bytes]
    """Pieces of some MiB at most. Raises `edgec.publish.transfer.TransientError` when the connection breaks."""
    hint: str = "the location is damaged or was tampered with; publish it again there"
    """Hint for when they turn out wrong."""


@dataclass(frozen=True)
class PublishResult:
    """What publishing did."""

    reference: str
    """What `edgec pull` takes to get exactly this, or the location where it has no such names."""
    targets: tuple[str, ...]
    """All that the index names now, in order of name."""
    sent: int
    """Files (folder) or blobs that were sent."""
    sent_bytes: int
    kept: int
    """Files or blobs that were there already."""
    changed: bool
    """False when index and files were all there already."""
    notes: tuple[str, ...] = ()
    """What the user should know of it, a line each."""


class Snapshot(Protocol):
    """A location as one reading of its index found it."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets it has, in order of name."""

    def bundle(self, target: str) -> RemoteBundle:
        """What it has of one of `targets`.

        Raises:
            PublishError, CredentialsError: it cannot be read, or is not what the index says.
        """

    def open(self, target: str, file: BundleFile, start: int) -> AbstractContextManager[ByteStream]:
        """The bytes of a file of ``offer(target)`` from byte `start` on, as they are: the caller checks the digest.

        Raises:
            TransientError: nothing came; another try may get it.
            PublishError, CredentialsError: the location has no such file or does not give it.
        """


class Store(Protocol):
    """A location that bundles are published to and pulled from.

    Both methods give up on what takes longer than the `RetryPolicy` they were made with, after as many tries.
    """

    def publish(self, bundles: Sequence[LocalBundle], *, add: bool, progress: Progress) -> PublishResult:
        """Send what is not there yet, then make the index name exactly `bundles`.

        Args:
            bundles: at least one, each of another target.
            add: keep the index's other targets, also those that another publisher adds at the same time.
            progress: told each step.

        Raises:
            PublishError, CredentialsError, StorageError: the index still names what it named before.
            BundleError: a file changed while it was sent.
        """

    def read(self, progress: Progress) -> Snapshot:
        """Read the index.

        Raises:
            NothingPublishedError: it has no index.
            PublishError, CredentialsError: it cannot be read.
        """
