"""Real boto3 over HTTP against moto's server."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.wire import Wire

from edgec.errors import BackendUnavailableError, CredentialsError, EdgecError, PublishError, TargetError
from edgec.publish import s3
from edgec.publish.outgoing import outgoing
from edgec.publish.place import S3Place
from edgec.publish.pull import Pulled, pull
from edgec.publish.s3 import S3Store
from edgec.publish.store import Published
from edgec.publish.transfer import BrokenError, Patience

MakeBundle = Callable[..., Path]
Client = Any
QUICK = Patience(timeout=5, retries=2, wait=0.01)
LARGE = bytes(range(256)) * 2**14
"""4 MiB."""
_buckets = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[int]:
    """The port of a running S3 server."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    yield int(running.get_host_and_port()[1])
    running.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, server: int, tmp_path: Path) -> None:
    """What boto3 reads: this server, and nothing of the user's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def client(server: int) -> Client:
    """boto3's own client."""
    import boto3.session

    return boto3.session.Session().client("s3", endpoint_url=f"http://127.0.0.1:{server}")


@pytest.fixture
def place(client: Client) -> S3Place:
    """A prefix of a bucket of its own."""
    made = S3Place(f"models-{next(_buckets)}", "edge/digits")
    client.create_bucket(Bucket=made.bucket)
    return made


def publish(bundle: Path, place: S3Place, *, add: bool = False, patience: Patience = QUICK) -> Published:
    found = outgoing([bundle], lambda step: None)
    return S3Store(place, patience).publish(found, add=add, progress=lambda step: None)


def get(place: S3Place, out: Path, *patterns: str, patience: Patience = QUICK) -> list[Pulled]:
    return list(pull(place, patterns or ("*",), out, patience=patience))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys(client: Client, place: S3Place) -> dict[str, Any]:
    """Key -> when it was written."""
    listed = client.list_objects_v2(Bucket=place.bucket).get("Contents", [])
    return {item["Key"]: item["LastModified"] for item in listed}


def blob(client: Client, place: S3Place, target: str, name: str) -> str:
    index = json.loads(client.get_object(Bucket=place.bucket, Key=f"{place.prefix}/index.json")["Body"].read())
    (digest,) = [file["sha256"] for file in index["bundles"][target]["files"] if file["name"] == name]
    return f"{place.prefix}/blobs/sha256/{digest}"


def test_there_and_back(tmp_path: Path, make_bundle: MakeBundle, place: S3Place, client: Client) -> None:
    bundle = make_bundle(tmp_path)
    done = publish(bundle, place)
    assert (done.reference, done.targets, done.changed) == (str(place), ("x86-64-int8",), True)
    assert done.sent == len(contents(bundle))
    (pulled,) = get(place, tmp_path / "out")
    assert contents(pulled.path) == contents(bundle)
    assert (pulled.path / "bench" / "run.sh").stat().st_mode & 0o111
    assert not (pulled.path / "model.onnx").stat().st_mode & 0o111
    head = client.head_object(
        Bucket=place.bucket, Key=blob(client, place, "x86-64-int8", "model.onnx"), ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"]
    with pytest.raises(TargetError, match='no target is called "x86-64-int9"'):
        get(place, tmp_path / "out", "x86-64-int9")


def test_nothing_is_sent_or_fetched_twice(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, client: Client
) -> None:
    bundle = make_bundle(tmp_path)
    publish(bundle, place)
    get(place, tmp_path / "out")
    before = keys(client, place)
    for add in (False, True):
        again = publish(bundle, place, add=add)
        assert (again.sent, again.kept, again.changed) == (0, len(contents(bundle)), False)
    assert keys(client, place) == before
    assert [one.changed for one in get(place, tmp_path / "out")] == [False]


def test_add_keeps_what_is_there_and_the_default_does_not(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place
) -> None:
    one, two = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", "rpi4-int8")
    assert publish(one, place, add=True).targets == ("x86-64-int8",)
    done = publish(two, place, add=True)
    assert done.targets == ("rpi4-int8", "x86-64-int8")
    assert done.kept >= 3, "files of both bundles are stored once"
    assert publish(two, place).targets == ("rpi4-int8",)


def test_damage_is_refused_and_mended_by_publishing_again(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, client: Client
) -> None:
    bundle = make_bundle(tmp_path)
    publish(bundle, place)
    model = (bundle / "model.onnx").read_bytes()
    key = blob(client, place, "x86-64-int8", "model.onnx")
    damages: list[Callable[[], object]] = [
        lambda: client.put_object(Bucket=place.bucket, Key=key, Body=b"!" + model[1:]),
        lambda: client.put_object(Bucket=place.bucket, Key=key, Body=model[:-1]),
        lambda: client.delete_object(Bucket=place.bucket, Key=key),
    ]
    for number, damage in enumerate(damages):
        damage()
        out = tmp_path / f"out-{number}"
        with pytest.raises(PublishError):
            get(place, out, patience=Patience(timeout=5, retries=0))
        assert not (out / "x86-64-int8").exists()
        assert publish(bundle, place).sent == 1
        get(place, out)
        assert contents(out / "x86-64-int8") == contents(bundle)


def test_cut_downloads_go_on_where_they_were(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path, model=LARGE)
    publish(bundle, place)
    with Wire(server, cut_down=1_500_000, cuts=2) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        get(place, tmp_path / "out")
        assert between.was_cut == 2
        assert between.passed_down < len(LARGE) + 2 * 2**20 + 100_000, "at most the piece of each cut came again"
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)


def test_a_pull_that_gave_up_is_gone_on_with(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path, model=LARGE)
    publish(bundle, place)
    with Wire(server, cut_down=2_500_000, cuts=1) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        with pytest.raises(BrokenError, match="connection"):
            get(place, tmp_path / "out", patience=Patience(timeout=5, retries=0))
        assert not (tmp_path / "out" / "x86-64-int8").exists()
        first = between.passed_down
        get(place, tmp_path / "out")
        assert between.passed_down - first < len(LARGE) - 2**20
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)
    assert not (tmp_path / "out" / ".work" / "pull").exists()


def test_cut_uploads_are_tried_again(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path, model=LARGE)
    with Wire(server, cut_up=1_500_000, cuts=2) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        assert publish(bundle, place).sent == len(contents(bundle))
        assert between.was_cut == 2
        get(place, tmp_path / "out")
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(bundle)


def test_a_publish_that_gives_up_leaves_what_was_there(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_bundle(tmp_path / "old"), make_bundle(tmp_path / "new", model=LARGE)
    publish(old, place)
    with Wire(server, cut_up=1_500_000) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{between.host}")
        with pytest.raises(BrokenError, match=r"\(3 tries\)"):
            publish(new, place)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server}")
    get(place, tmp_path / "out")
    assert contents(tmp_path / "out" / "x86-64-int8") == contents(old)
    done = publish(new, place)
    assert done.kept > 0, "what had arrived is not sent again"


def test_a_hung_server(tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path)
    with Wire(0, hang=True) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{silent.host}")
        began = time.monotonic()
        impatient = Patience(timeout=0.3, retries=1, wait=0.01)
        for action in (functools.partial(publish, bundle), functools.partial(get, out=tmp_path / "out")):
            with pytest.raises(BrokenError, match=r"no answer in time \(2 tries\)"):
                action(place=S3Place("models", "x"), patience=impatient)
        assert time.monotonic() - began < 5
    with pytest.raises(BrokenError, match="cannot be reached"):
        publish(bundle, S3Place("models", "x"), patience=impatient)


def test_places_that_are_not_there(tmp_path: Path, make_bundle: MakeBundle, place: S3Place) -> None:
    with pytest.raises(PublishError, match="no such bucket"):
        publish(make_bundle(tmp_path), S3Place("no-such-bucket", "x"))
    with pytest.raises(PublishError, match="no such bucket"):
        get(S3Place("no-such-bucket", "x"), tmp_path / "out")
    with pytest.raises(PublishError, match="nothing is published there"):
        get(place, tmp_path / "out")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, place: S3Place) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(BackendUnavailableError) as caught:
        S3Store(place, QUICK)
    assert "edgec[s3]" in caught.value.hint


def test_credentials(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    bundle = make_bundle(tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    with pytest.raises(CredentialsError, match="profile"):
        publish(bundle, place)
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match=r"(?i)partial credentials") as caught:
        publish(bundle, place)
    assert "AKIA" not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for action in (functools.partial(publish, bundle), functools.partial(get, out=tmp_path / "out")):
        with pytest.raises(CredentialsError, match=r"(?i)unable to locate credentials"):
            action(place=place)
    assert keys(client, place) == {}


def test_publishers_who_meet_lose_nothing(tmp_path: Path, make_bundle: MakeBundle, place: S3Place) -> None:
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
            Meeting(place, QUICK).publish(outgoing([bundle], lambda step: None), add=True, progress=lambda step: None)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=one, args=(bundle,)) for bundle in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert met >= 3, "the conditional write was refused to all but one"
    assert {pulled.target for pulled in get(place, tmp_path / "out")} == set(targets)


def test_a_lost_answer_to_the_index_is_no_loss(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = S3Store._put_index
    answers = iter([False])

    def lose_answer(store: S3Store, *arguments: Any) -> bool:
        put(store, *arguments)
        if not next(answers, True):
            raise BrokenError("the connection broke")
        return put(store, *arguments)

    monkeypatch.setattr(S3Store, "_put_index", lose_answer)
    done = publish(make_bundle(tmp_path), place, add=True)
    assert done.changed
    assert done.targets == ("x86-64-int8",)


def test_a_server_without_conditional_writes_is_told_of(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, client: Client, monkeypatch: pytest.MonkeyPatch
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
        publish(bundle, place, add=True)
    assert "without --add" in caught.value.hint
    assert not [key for key in keys(client, place) if "blobs" not in key]
    assert publish(bundle, place).changed


def test_a_file_that_changes_while_it_is_sent(
    tmp_path: Path, make_bundle: MakeBundle, place: S3Place, client: Client
) -> None:
    bundle = make_bundle(tmp_path)
    found = outgoing([bundle], lambda step: None)

    def progress(step: str) -> None:
        if "send model.onnx" in step:
            (bundle / "model.onnx").write_bytes(b"!" * (bundle / "model.onnx").stat().st_size)

    with pytest.raises(EdgecError):
        S3Store(place, QUICK).publish(found, add=False, progress=progress)
    with pytest.raises(PublishError, match="nothing is published there"):
        get(place, tmp_path / "out")
    (digest,) = [file.sha256 for file in found[0].files if file.name == "model.onnx"]
    assert not [key for key in keys(client, place) if digest in key]


def test_an_index_that_escapes(tmp_path: Path, make_bundle: MakeBundle, place: S3Place, client: Client) -> None:
    publish(make_bundle(tmp_path), place)
    key = f"{place.prefix}/index.json"
    index = json.loads(client.get_object(Bucket=place.bucket, Key=key)["Body"].read())
    index["bundles"]["x86-64-int8"]["files"][0]["name"] = "../../escaped"
    client.put_object(Bucket=place.bucket, Key=key, Body=json.dumps(index))
    with pytest.raises(PublishError, match="leads out of the bundle"):
        get(place, tmp_path / "out")
    assert not list(tmp_path.rglob("escaped"))
    shutil.rmtree(tmp_path / "out")
