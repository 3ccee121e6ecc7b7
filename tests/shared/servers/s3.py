"""A real S3 server (moto's) on loopback, and what boto3 is told of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgec.publish.location import S3Location

Client = Any
_numbers = itertools.count()


@contextmanager
def s3_server() -> Iterator[int]:
    """The port of a running server."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    yield int(running.get_host_and_port()[1])
    running.stop()


def environment(host: str) -> dict[str, str]:
    """What boto3 reads, and nothing of the user's."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "geheim",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }


def new_bucket(client: Client) -> S3Location:
    """A prefix of a bucket that was not there before."""
    made = S3Location(f"models-{next(_numbers)}", "edge/digits")
    client.create_bucket(Bucket=made.bucket)
    return made


def keys(client: Client, location: S3Location) -> dict[str, Any]:
    """Key -> when it was written."""
    listed = client.list_objects_v2(Bucket=location.bucket).get("Contents", [])
    return {item["Key"]: item["LastModified"] for item in listed}


def read_index(client: Client, location: S3Location) -> dict[str, Any]:
    """What ``index.json`` says."""
    body = client.get_object(Bucket=location.bucket, Key=f"{location.prefix}/index.json")["Body"]
    index: dict[str, Any] = json.loads(body.read())
    return index


def blob(client: Client, location: S3Location, target: str, name: str) -> str:
    """Key of a file of a published bundle."""
    files = read_index(client, location)["bundles"][target]["files"]
    (digest,) = [file["sha256"] for file in files if file["name"] == name]
    return f"{location.prefix}/blobs/sha256/{digest}"
