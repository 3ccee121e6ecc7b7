"""Signed envelopes: DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md) with Ed25519.

The signature covers the pre-authentication encoding of the payload's type and bytes. Only envelopes that are exactly as
`seal` writes them are accepted, because the rest of an envelope is not signed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgec.bundle.provenance.strict_json import parse_object
from edgec.frozen import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""Payload type of statements (in-toto's envelope layer, v1)."""


def seal(payload: bytes, keys: Mapping[str, Ed25519PrivateKey]) -> str:
    """Sign a payload.

    Args:
        payload: a statement.
        keys: by id.

    Returns:
        The envelope as one line of JSON, with a signature by each key, in order of key id.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # has no __all__

    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    for name, key in sorted(keys.items()):
        envelope.sign(CryptoSigner(key, SSlibKey.from_crypto(key.public_key(), keyid=name)))
    return canonical_json(envelope.to_dict())


def open_envelope(line: bytes, keys: Mapping[str, Ed25519PublicKey]) -> tuple[bytes, frozenset[str]]:
    """Verify an envelope.

    Args:
        line: as `seal` writes it.
        keys: by id.

    Returns:
        The payload, and the ids of those of `keys` that signed it.

    Raises:
        ValueError: the envelope is malformed, a signature is wrong, or none of the keys signed it.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]

    payload, signatures = _read(line)
    if not signatures:
        raise ValueError("it has no signature")
    envelope = Envelope(payload, PAYLOAD_TYPE, {name: Signature(name, sig.hex()) for name, sig in signatures.items()})
    verified = set()
    for name in keys.keys() & signatures.keys():
        try:
            envelope.verify([SSlibKey.from_crypto(keys[name], keyid=name)], threshold=1)
        except UnverifiedSignatureError as exc:
            raise ValueError(f"the signature of key {name} does not match the payload") from exc
        verified.add(name)
    if not verified:
        raise ValueError(f"it is signed by key {', '.join(signatures)}, not by {', '.join(keys)}")
    return payload, frozenset(verified)


def signers(line: bytes) -> tuple[str, ...]:
    """Ids of the keys that an envelope claims signatures by; nothing is verified.

    Raises:
        ValueError: the envelope is malformed.
    """
    return tuple(_read(line)[1])


def _read(line: bytes) -> tuple[bytes, dict[str, bytes]]:
    content = parse_object(line)
    if set(content) != {"payload", "payloadType", "signatures"}:
        raise ValueError("it is not a DSSE envelope")
    if content["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"its payload is not {PAYLOAD_TYPE}")
    listed = content["signatures"]
    if not isinstance(listed, list) or not all(
        isinstance(item, dict) and set(item) == {"keyid", "sig"} for item in listed
    ):
        raise ValueError("its signatures are not in DSSE format")
    signatures = {_key_id(item["keyid"]): _base64(item["sig"]) for item in listed}
    if len(signatures) != len(listed):
        raise ValueError("a key signed it twice")
    if canonical_json(content).encode() != line:
        raise ValueError("it is not formatted as edgec sign does")
    return _base64(content["payload"]), signatures


def _key_id(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError("a key's id is not 64 hexadecimal digits")
    return value


def _base64(value: Any) -> bytes:
    """Decode canonical base64 (RFC 4648, section 4; padding bits are zero)."""
    if not isinstance(value, str):
        raise ValueError("base64 text is expected")
    content = base64.b64decode(value.encode(), validate=True)
    if base64.b64encode(content).decode() != value:
        raise ValueError("base64 text is not in canonical form")
    return content
