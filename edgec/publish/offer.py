"""Signed entries of an index: the holder of a key offers a bundle under a target until a day.

The signature of a bundle does not end, so anyone with write access to a location could offer an old one for ever. An
offer names the bundle's manifest by digest, and has to be renewed by publishing again. It is an in-toto statement in a
DSSE envelope, as the attestations of bundles are, and each entry of an index has its own: of publishers that add to
one index none signs the bundles of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.bundle.manifest import MANIFEST
from edgec.errors import SignatureError
from edgec.publish.store import LocalBundle, RemoteBundle

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OFFER = "urn:edgec:offer:v1"
"""Predicate type of an offer: the target, and when it expires."""
DAYS = 90
"""For which an offer holds, where its signer says nothing else."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_HINT = "nothing was changed: ask the publisher, who renews it with edgec publish --key"


def sign_offer(
    bundle: LocalBundle, keys: Mapping[str, Ed25519PrivateKey], days: int = DAYS, now: datetime | None = None
) -> str:
    """The signed entry of a bundle, one line of text.

    Args:
        bundle: to publish.
        keys: private keys by their id.
        days: for which it holds.
        now: when it begins; default: the clock's time.
    """
    from edgec.bundle.provenance.envelope import seal
    from edgec.bundle.provenance.statement import Statement

    digest = next(file.sha256 for file in bundle.files if file.name == MANIFEST)
    expires = (now or datetime.now(UTC)) + timedelta(days=days)
    claim = {"target": bundle.target, "expires": f"{expires:{_TIME}}"}
    return seal(Statement(OFFER, {MANIFEST: digest}, claim).to_bytes(), keys)


def check_offer(bundle: RemoteBundle, keys: Sequence[Path], where: str, now: datetime | None = None) -> bool:
    """Check the signed entry of a bundle; returns whether it has one.

    Args:
        bundle: as the location describes it.
        keys: public keys; one of them must have signed the entry.
        where: location, for messages.
        now: default: the clock's time.

    Raises:
        SignatureError: none of the keys signed it, it is for something else, or it has expired.
    """
    if not bundle.offer:
        return False
    from edgec.bundle.provenance.envelope import open_envelope
    from edgec.bundle.provenance.keys import public_keys
    from edgec.bundle.provenance.statement import read_statement

    digest = next(file.sha256 for file in bundle.files if file.name == MANIFEST)
    try:
        payload, _ = open_envelope(bundle.offer.encode(), public_keys(keys))
        statement = read_statement(payload)
        if statement.predicate_type != OFFER:
            raise ValueError(f"it is a {statement.predicate_type}, not a {OFFER}")
        if (statement.predicate.get("target"), dict(statement.subjects)) != (bundle.target, {MANIFEST: digest}):
            raise ValueError("it is for another bundle")
        expires = datetime.strptime(str(statement.predicate.get("expires")), _TIME).replace(tzinfo=UTC)
    except ValueError as exc:
        raise SignatureError(f"the signature of the index is invalid: {exc}", where=where, hint=_HINT) from exc
    if (now or datetime.now(UTC)) >= expires:
        raise SignatureError(f"the index has expired, on {expires:{_TIME}}", where=where, hint=_HINT)
    return True
