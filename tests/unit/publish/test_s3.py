"""Real boto3 over HTTP against moto's server."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from s3_trips import QUICK, contents, get, publish
from servers.s3 import blob, keys, read_index

from edgec.errors import BackendUnavailableError, BundleError, CredentialsError, PublishError, TargetError
from edgec.publish import s3
from edgec.publish.collect import collect_bundles
from edgec.publish.location import S3Location
from edgec.publish.s3 import S3Store
from edgec.publish.transfer import RetryPolicy, TransientError

MakeBundle = Callable[..., Path]


def test_there_and_back(tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, client: Any) -> None:
    bundle = make_bundle(tmp_path)
    done = publish(bundle, bucket)
    assert (done.reference, done.targets, done.changed) == (str(bucket), ("x86-64-int8",), True)
    assert done.sent == len(contents(bundle))
    (pulled,) = get(bucket, tmp_path / "out")
    assert contents(pulled.path) == contents(bundle)
    assert (pulled.path / "bench" / "run.sh").stat().st_mode & 0o111
    assert not (pulled.path / "model.onnx").stat().st_mode & 0o111
    head = client.head_object(
        Bucket=bucket.bucket, Key=blob(client, bucket, "x86-64-int8", "model.onnx"), ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"]
    with pytest.raises(TargetError, match='no target is called "x86-64-int9"'):
        get(bucket, tmp_path / "out", "x86-64-int9")


def test_signed_entries_come_back(tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location) -> None:
    (bundle,) = collect_bundles([make_bundle(tmp_path)], lambda step: None)
    store = S3Store(bucket, QUICK)
    store.publish([replace(bundle, offer='{"payload":"x"}')], add=False, progress=lambda step: None)
    assert store.read(lambda step: None).bundle(bundle.target).offer == '{"payload":"x"}'


def test_nothing_is_sent_or_fetched_twice(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, client: Any
) -> None:
    bundle = make_bundle(tmp_path)
    publish(bundle, bucket)
    get(bucket, tmp_path / "out")
    before = keys(client, bucket)
    for add in (False, True):
        again = publish(bundle, bucket, add=add)
        assert (again.sent, again.kept, again.changed) == (0, len(contents(bundle)), False)
    assert keys(client, bucket) == before
    assert [one.changed for one in get(bucket, tmp_path / "out")] == [False]


def test_add_keeps_what_is_there_and_the_default_does_not(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location
) -> None:
    one, two = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", "rpi4-int8")
    assert publish(one, bucket, add=True).targets == ("x86-64-int8",)
    done = publish(two, bucket, add=True)
    assert done.targets == ("rpi4-int8", "x86-64-int8")
    assert done.kept >= 3, "files of both bundles are stored once"
    assert publish(two, bucket).targets == ("rpi4-int8",)


def test_damage_is_refused_and_mended_by_publishing_again(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, client: Any
) -> None:
    bundle = make_bundle(tmp_path)
    publish(bundle, bucket)
    model = (bundle / "model.onnx").read_bytes()
    key = blob(client, bucket, "x86-64-int8", "model.onnx")
    damages: list[Callable[[], object]] = [
        lambda: client.put_object(Bucket=bucket.bucket, Key=key, Body=b"!" + model[1:]),
        lambda: client.put_object(Bucket=bucket.bucket, Key=key, Body=model[:-1]),
        lambda: client.delete_object(Bucket=bucket.bucket, Key=key),
    ]
    for number, damage in enumerate(damages):
        damage()
        out = tmp_path / f"out-{number}"
        with pytest.raises(PublishError):
            get(bucket, out, policy=RetryPolicy(timeout=5, retries=0))
        assert not (out / "x86-64-int8").exists()
        assert publish(bundle, bucket).sent == 1
        get(bucket, out)
        assert contents(out / "x86-64-int8") == contents(bundle)


def test_places_that_are_not_there(tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location) -> None:
    with pytest.raises(PublishError, match="the bucket does not exist"):
        publish(make_bundle(tmp_path), S3Location("no-such-bucket", "x"))
    with pytest.raises(PublishError, match="the bucket does not exist"):
        get(S3Location("no-such-bucket", "x"), tmp_path / "out")
    with pytest.raises(PublishError, match="nothing is published there"):
        get(bucket, tmp_path / "out")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, bucket: S3Location) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(BackendUnavailableError) as caught:
        S3Store(bucket, QUICK)
    assert "edgec[s3]" in caught.value.hint


def test_credentials(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, monkeypatch: pytest.MonkeyPatch, client: Any
) -> None:
    bundle = make_bundle(tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    with pytest.raises(CredentialsError, match="profile"):
        publish(bundle, bucket)
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match=r"(?i)partial credentials") as caught:
        publish(bundle, bucket)
    assert "AKIA" not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for action in (functools.partial(publish, bundle), functools.partial(get, out=tmp_path / "out")):
        with pytest.raises(CredentialsError, match=r"(?i)unable to locate credentials"):
            action(location=bucket)
    assert keys(client, bucket) == {}


def test_publishers_who_meet_lose_nothing(tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location) -> None:
    """Each changes the index between the other's reading and writing of it."""
    targets = ["rpi4-int8", "rpi4-fp16", "rpi5-int8", "x86-64-int8"]
    bundles = [make_bundle(tmp_path / target, target) for target in targets]
    wait = threading.Barrier(len(targets), timeout=30)
    failed: list[BaseException] = []
    met = 0

    class Meeting(S3Store):
        """Reads the index for the first time together with all others."""

        read_once = False

        def _write_index(self, *arguments: Any, **options: Any) -> Any:
            self.read_once = True
            return super()._write_index(*arguments, **options)

        def _put_index(self, *arguments: Any) -> bool:
            nonlocal met
            if self.read_once:
                self.read_once = False
                wait.wait()
            put = super()._put_index(*arguments)
            met += not put
            return put

    def one(bundle: Path) -> None:
        try:
            Meeting(bucket, QUICK).publish(
                collect_bundles([bundle], lambda step: None), add=True, progress=lambda step: None
            )
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=one, args=(bundle,)) for bundle in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert met >= 3, "the conditional write was refused to all but one"
    assert {pulled.target for pulled in get(bucket, tmp_path / "out")} == set(targets)


def test_a_lost_answer_to_the_index_is_no_loss(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = S3Store._put_index
    answers = iter([False])

    def lose_answer(store: S3Store, *arguments: Any) -> bool:
        put(store, *arguments)
        if not next(answers, True):
            raise TransientError("the connection broke")
        return put(store, *arguments)

    monkeypatch.setattr(S3Store, "_put_index", lose_answer)
    done = publish(make_bundle(tmp_path), bucket, add=True)
    assert done.changed
    assert done.targets == ("x86-64-int8",)


def test_a_server_without_conditional_writes_is_told_of(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ignores the headers: boto3 drops them here before it signs the request."""
    connect = s3.connect

    def unconditional(*arguments: Any) -> Any:
        made = connect(*arguments)

        def drop(params: dict[str, Any], **_: Any) -> None:
            for name in ("If-Match", "If-None-Match"):
                params["headers"].pop(name, None)

        made.meta.events.register("before-call.s3.PutObject", drop)
        return made

    monkeypatch.setattr(s3, "connect", unconditional)
    bundle = make_bundle(tmp_path)
    with pytest.raises(PublishError, match="no conditional writes") as caught:
        publish(bundle, bucket, add=True)
    assert "without --add" in caught.value.hint
    assert not [key for key in keys(client, bucket) if "blobs" not in key]
    assert publish(bundle, bucket).changed


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"!" * path.stat().st_size)])
def test_a_file_that_changes_while_it_is_sent(
    tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, client: Any, change: Callable[[Path], object]
) -> None:
    bundle = make_bundle(tmp_path)
    found = collect_bundles([bundle], lambda step: None)

    def progress(step: str) -> None:
        if "send model.onnx" in step:
            change(bundle / "model.onnx")

    with pytest.raises(BundleError):
        S3Store(bucket, QUICK).publish(found, add=False, progress=progress)
    with pytest.raises(PublishError, match="nothing is published there"):
        get(bucket, tmp_path / "out")
    (digest,) = [file.sha256 for file in found[0].files if file.name == "model.onnx"]
    assert not [key for key in keys(client, bucket) if digest in key]


def test_an_index_that_escapes(tmp_path: Path, make_bundle: MakeBundle, bucket: S3Location, client: Any) -> None:
    publish(make_bundle(tmp_path), bucket)
    index = read_index(client, bucket)
    index["bundles"]["x86-64-int8"]["files"][0]["name"] = "../../escaped"
    client.put_object(Bucket=bucket.bucket, Key=f"{bucket.prefix}/index.json", Body=json.dumps(index))
    with pytest.raises(PublishError, match="a path that leaves the bundle"):
        get(bucket, tmp_path / "out")
    assert not list(tmp_path.rglob("escaped"))
    shutil.rmtree(tmp_path / "out")
