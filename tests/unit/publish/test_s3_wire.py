"""Connections to an S3 server that break, and servers that are silent."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from s3_trips import contents, get, publish
from servers.wire import Wire

from edgec.publish.location import S3Location
from edgec.publish.transfer import RetryPolicy, TransientError

MakeBundle = Callable[..., Path]
LARGE = bytes(range(256)) * 2**14
"""4 MiB."""


def test_cut_downloads_go_on_where_they_were(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path, model=LARGE)
    publish(bundle, bucket)
    with Wire(s3_port, cut_down=1_500_000, cuts=2, orderly=True) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        get(bucket, tmp_path / "out")
        assert between.was_cut == 2
        assert between.passed_down < len(LARGE) + 2 * 2**20 + 100_000, "at most the piece of each cut came again"
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)


def test_a_pull_that_gave_up_is_gone_on_with(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path, model=LARGE)
    publish(bundle, bucket)
    with Wire(s3_port, cut_down=2_500_000, cuts=1, orderly=True) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        with pytest.raises(TransientError, match="connection"):
            get(bucket, tmp_path / "out", policy=RetryPolicy(timeout=5, retries=0))
        assert not (tmp_path / "out" / "x86-64-int8").exists()
        first = between.passed_down
        get(bucket, tmp_path / "out")
        assert between.passed_down - first < len(LARGE) - 2**20
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)
    assert not (tmp_path / "out" / ".work" / "pull").exists()


def test_cut_uploads_are_tried_again(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path, model=LARGE)
    with Wire(s3_port, cut_up=1_500_000, cuts=2) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        assert publish(bundle, bucket).sent == len(contents(bundle))
        assert between.was_cut == 2
        get(bucket, tmp_path / "out")
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)


def test_a_publish_that_gives_up_leaves_what_was_there(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_bundle(tmp_path / "old"), make_bundle(tmp_path / "new", model=LARGE)
    publish(old, bucket)
    with Wire(s3_port, cut_up=1_500_000) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        with pytest.raises(TransientError, match=r"\(3 tries\)"):
            publish(new, bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")
    get(bucket, tmp_path / "out")
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(old)
    done = publish(new, bucket)
    assert done.kept > 0, "what had arrived is not sent again"


@pytest.mark.usefixtures("client")
def test_a_hung_server(tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path)
    with Wire(0, hang=True) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{silent.host}")
        began = time.monotonic()
        impatient = RetryPolicy(timeout=0.3, retries=1, wait=0.01)
        for action in (functools.partial(publish, bundle), functools.partial(get, out=tmp_path / "out")):
            with pytest.raises(TransientError, match=r"the connection timed out \(2 tries\)"):
                action(location=S3Location("models", "x"), policy=impatient)
        assert time.monotonic() - began < 5
    with pytest.raises(TransientError, match="cannot be reached"):
        publish(bundle, S3Location("models", "x"), policy=impatient)
