"""Bundles to an S3 place and back, as the tests of S3 send them."""

from __future__ import annotations

from pathlib import Path

from edgec.publish.outgoing import outgoing
from edgec.publish.place import S3Place
from edgec.publish.pull import Pulled, pull
from edgec.publish.s3 import S3Store
from edgec.publish.store import Published
from edgec.publish.transfer import Patience

QUICK = Patience(timeout=5, retries=2, wait=0.01)


def publish(bundle: Path, place: S3Place, *, add: bool = False, patience: Patience = QUICK) -> Published:
    found = outgoing([bundle], lambda step: None)
    return S3Store(place, patience).publish(found, add=add, progress=lambda step: None)


def get(place: S3Place, out: Path, *patterns: str, patience: Patience = QUICK) -> list[Pulled]:
    return list(pull(place, patterns or ("*",), out, patience=patience))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
