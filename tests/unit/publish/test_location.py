from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import UsageError
from edgec.publish.location import FolderLocation, Location, OciLocation, S3Location, parse_location

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/srv/models", FolderLocation(Path("/srv/models"))),
        ("models", FolderLocation(Path.cwd() / "models")),
        ("C:models", FolderLocation(Path.cwd() / "C:models")),
        ("file:///srv/a%20b", FolderLocation(Path("/srv/a b"))),
        ("file://localhost/srv", FolderLocation(Path("/srv"))),
        ("oci://registry.local/models/digits", OciLocation("registry.local", "models/digits")),
        ("oci://127.0.0.1:5000/digits:1.4", OciLocation("127.0.0.1:5000", "digits", "1.4")),
        ("oci://[::1]:5000/digits:1.4", OciLocation("[::1]:5000", "digits", "1.4")),
        (f"oci://host/digits@{DIGEST}", OciLocation("host", "digits", "latest", DIGEST)),
        (f"oci://host/digits:1@{DIGEST}", OciLocation("host", "digits", "1", DIGEST)),
        ("s3://models", S3Location("models", "")),
        ("s3://models/edge/digits/", S3Location("models", "edge/digits")),
    ],
)
def test_places(text: str, location: Location) -> None:
    assert parse_location(text) == location
    assert parse_location(str(location)) == (
        location if not getattr(location, "digest", "") else parse_location(str(location))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the location is empty"),
        ("oic://host/x", 'did you mean "oci"?'),
        ("S3://bucket/x", 'did you mean "s3"?'),
        ("https://host/x", "oci://HOST"),
        ("gopher://host/x", 'unknown kind of location "gopher://"'),
        ("gopher://host/x", "locations: DIR"),
        ("C:/foo", 'unknown kind of location "C:/"\n  write a folder with such a name as ./C:/'),
        ("oci:/host/x", "two slashes"),
        ("file://srv/models", "absolute path and no host"),
        ("file:///a%00b", "zero byte"),
        ("oci://host", "not the name of a repository"),
        ("oci://host/Models", "lower-case"),
        ("oci://host/../x", "not the name of a repository"),
        ("oci://ho st/x", "not a host"),
        ("oci://host:port/x", "not a host"),
        ("oci://host/x:a b", "not a tag"),
        ("oci://host/x@sha256:12", "not a digest"),
        ("oci://host/x?a=b", "no query"),
        ("s3://B/x", "not the name of a bucket"),
        ("s3://bucket/a/../../b", '".."'),
        ("s3://bucket/a//b", "empty part"),
    ],
)
def test_no_places(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "oci://robot:geheim@host/x",
        "oci://robot:ge/heim@host/x:1",
        f"oci://robot:geheim@host/x@{DIGEST}",
        "oci://geheim@host/x",
        "s3://AKIA:geheim@bucket/x",
        "s3://bucket/x?X-Amz-Signature=geheim",
        "oci://host/x?token=geheim",
        "https://robot:geheim@host/x",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(text)
    assert "heim" not in str(caught.value)
    assert "AKIA" not in str(caught.value)
