"""The store at a location that a user names: a folder, an OCI registry or an S3 bucket."""

from __future__ import annotations

from edgec.publish.location import FolderLocation, Location, S3Location
from edgec.publish.store import Store
from edgec.publish.transfer import RetryPolicy


def open_store(location: Location, policy: RetryPolicy) -> Store:
    """The store at `location`; nothing is read or sent yet.

    Raises:
        BackendUnavailableError: the packages for this kind of location are not installed.
    """
    if isinstance(location, FolderLocation):
        from edgec.publish.folder import FolderStore

        return FolderStore(location, policy)
    if isinstance(location, S3Location):
        from edgec.publish.s3 import S3Store

        return S3Store(location, policy)
    from edgec.publish.oci.store import OciStore

    return OciStore(location, policy)
