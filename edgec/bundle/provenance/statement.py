"""The signed payloads: in-toto statements (github.com/in-toto/attestation, spec/v1/statement.md, v1.1).

Subjects are all files of a bundle but the attestations themselves, by their path in it and their SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgec.bundle.provenance.strict_json import parse_object
from edgec.frozen import canonical_json

STATEMENT = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True)
class Statement:
    """A claim about files."""

    predicate_type: str
    """URI of what is claimed."""
    subjects: Mapping[str, str]
    """File -> SHA-256 in hexadecimal digits."""
    predicate: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The statement as canonical JSON; ``subject`` is its last key, in order of name."""
        subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(self.subjects.items())]
        content = {
            "_type": STATEMENT,
            "subject": subject,
            "predicateType": self.predicate_type,
            "predicate": self.predicate,
        }
        return canonical_json(content).encode()


def read_statement(payload: bytes) -> Statement:
    """Parse a statement; unknown fields are ignored, as in-toto's parsing rules require.

    Raises:
        ValueError: `payload` is not a complete statement.
    """
    content = parse_object(payload)
    if content.get("_type") != STATEMENT:
        raise ValueError(f"it is not a {STATEMENT}")
    subject, kind, predicate = (content.get(key) for key in ("subject", "predicateType", "predicate"))
    if not isinstance(subject, list) or not isinstance(kind, str) or not isinstance(predicate, dict):
        raise ValueError("it is not a complete in-toto statement")
    subjects = dict(map(_subject, subject))
    if len(subjects) != len(subject):
        raise ValueError("it names a file twice")
    return Statement(kind, subjects, predicate)


def _subject(item: Any) -> tuple[str, str]:
    name = item.get("name") if isinstance(item, dict) else None
    digests = item.get("digest") if isinstance(item, dict) else None
    digest = digests.get("sha256") if isinstance(digests, dict) else None
    if not isinstance(name, str) or not isinstance(digest, str) or len(digest) != 64:
        raise ValueError("a subject has no name or no SHA-256")
    return name, digest
