"""The store at a location that a user names: a folder, an OCI registry or an S3 bucket."""

from __future__ import annotations

from edgec.publish.place import FolderPlace, Place, S3Place
from edgec.publish.store import Store
from edgec.publish.transfer import Patience


def open_store(place: Place, patience: Patience) -> Store:
    """The store at `place`; nothing is read or sent yet.

    Raises:
        BackendUnavailableError: the packages for this kind of location are not installed.
    """
    if isinstance(place, FolderPlace):
        from edgec.publish.folder import FolderStore

        return FolderStore(place, patience)
    if isinstance(place, S3Place):
        from edgec.publish.s3 import S3Store

        return S3Store(place, patience)
    from edgec.publish.oci.store import OciStore

    return OciStore(place, patience)
