"""Bundles to an S3 location and back, as the tests of S3 send them."""

from __future__ import annotations

from pathlib import Path

from edgec.publish.collect import collect_bundles
from edgec.publish.location import S3Location
from edgec.publish.pull import PulledBundle, pull
from edgec.publish.s3 import S3Store
from edgec.publish.store import PublishResult
from edgec.publish.transfer import RetryPolicy

QUICK = RetryPolicy(timeout=5, retries=2, wait=0.01)


def publish(bundle: Path, location: S3Location, *, add: bool = False, policy: RetryPolicy = QUICK) -> PublishResult:
    found = collect_bundles([bundle], lambda step: None)
    return S3Store(location, policy).publish(found, add=add, progress=lambda step: None)


def get(location: S3Location, out: Path, *patterns: str, policy: RetryPolicy = QUICK) -> list[PulledBundle]:
    return list(pull(location, patterns or ("*",), out, policy=policy))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
