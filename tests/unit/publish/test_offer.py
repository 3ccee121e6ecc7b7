"""Signed entries of an index: who signs, what for, until when; and the real OCI records that carry them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec.bundle.check import read_bundle
from edgec.bundle.manifest import Measurements
from edgec.bundle.provenance.keys import generate, private_keys
from edgec.bundle.provenance.sign import sign_bundle
from edgec.bundle.write import write_measurements
from edgec.cli.publish import command as publish_command
from edgec.errors import SignatureError
from edgec.publish.collect import collect_bundles
from edgec.publish.folder import FolderStore
from edgec.publish.location import FolderLocation
from edgec.publish.offer import check_offer, sign_offer
from edgec.publish.place import Accepted
from edgec.publish.pull import pull
from edgec.publish.store import LocalBundle, RemoteBundle
from edgec.publish.transfer import RetryPolicy
from edgec.verify.records import Measurement

TARGET = "x86-64-int8"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
POLICY = RetryPolicy(timeout=0.2, retries=0, wait=0.01)
Make = Callable[..., LocalBundle]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("one", "two"):
        generate(folder / name, {})
    return folder


@pytest.fixture
def make(
    tmp_path: Path, keys: Path, make_bundle: Callable[..., Path], make_measurement: Callable[..., Measurement]
) -> Make:
    """A bundle of a version, signed with key ``one``."""

    def bundle(version: str) -> LocalBundle:
        path = make_bundle(tmp_path / "built" / version, name="digits", version=version)
        gates = read_bundle(path).gates
        write_measurements(path, Measurements(measurements=(make_measurement(),), gates=gates))
        sign_bundle(path, private_keys([keys / "one.key"], {}))
        return collect_bundles([path], lambda step: None)[0]

    return bundle


def publish(tmp_path: Path, bundle: LocalBundle, offer: str = "") -> bool:
    store = FolderStore(FolderLocation(tmp_path / "location"), POLICY)
    return store.publish([replace(bundle, offer=offer)], add=False, progress=lambda step: None).changed


def get(tmp_path: Path, key: Path, **accepted: bool) -> list[str]:
    steps: list[str] = []
    location, allowed = FolderLocation(tmp_path / "location"), Accepted(**accepted)  # type: ignore[arg-type]
    list(pull(location, ["*"], tmp_path / "out", keys=[key], accepted=allowed, policy=POLICY, progress=steps.append))
    return steps


def test_who_signed_what_until_when(keys: Path, make: Make) -> None:
    bundle, other = make("1.0"), make("1.1")
    held = private_keys([keys / "one.key"], {})
    offer = sign_offer(bundle, held, 2, NOW)
    remote = RemoteBundle(target=TARGET, files=bundle.files, offer=offer)
    public = [keys / "one.pub"]
    assert check_offer(remote, public, "here", NOW + timedelta(days=2, seconds=-1))
    assert check_offer(remote, [keys / "two.pub", *public], "here", NOW)
    assert not check_offer(remote.model_copy(update={"offer": ""}), public, "here", NOW)

    def refused(change: dict[str, object], match: str, by: str = "one", later: int = 0) -> None:
        with pytest.raises(SignatureError, match=match) as caught:
            check_offer(remote.model_copy(update=change), [keys / f"{by}.pub"], "here", NOW + timedelta(days=later))
        assert caught.value.where == "here"

    refused({}, "has expired, on 2026-12-02T12:00:00Z", later=2)
    refused({}, "it is signed by key", by="two")
    refused({"files": other.files}, "it is for another bundle")
    refused({"target": "rpi4-int8"}, "it is for another bundle")
    refused({"offer": offer[:-4]}, "signature of the index is invalid")
    envelope = json.loads(offer)
    envelope["payload"] = json.loads(sign_offer(bundle, held, 99, NOW))["payload"]
    refused({"offer": json.dumps(envelope, sort_keys=True, separators=(",", ":"))}, "does not match the payload")
    attestation = (bundle.path / "bundle.intoto.jsonl").read_text().splitlines()[0]
    refused({"offer": attestation}, "it is a https://slsa.dev/provenance/v1")


def test_an_index_that_expired_is_refused_also_for_a_bundle_that_is_there(
    tmp_path: Path, keys: Path, make: Make
) -> None:
    bundle, held = make("1.0"), private_keys([keys / "one.key"], {})
    past = datetime.now(UTC) - timedelta(days=3)
    publish(tmp_path, bundle, sign_offer(bundle, held, 2, past))
    with pytest.raises(SignatureError, match="the index has expired"):
        get(tmp_path, keys / "one.pub")
    assert not (tmp_path / "out" / TARGET).exists()
    assert publish(tmp_path, bundle, sign_offer(bundle, held, 2))
    assert not any("not signed" in step for step in get(tmp_path, keys / "one.pub"))
    publish(tmp_path, bundle, sign_offer(bundle, held, 2, past))
    with pytest.raises(SignatureError, match="the index has expired"):
        get(tmp_path, keys / "one.pub")
    assert read_bundle(tmp_path / "out" / TARGET).title == "digits 1.0"


def test_a_signature_cannot_be_left_out_again(tmp_path: Path, keys: Path, make: Make) -> None:
    bundle, newer = make("1.0"), make("1.1")
    publish(tmp_path, bundle)
    assert f"{TARGET}: the index is not signed: it may offer an older bundle" in get(tmp_path, keys / "one.pub")
    publish(tmp_path, bundle, sign_offer(bundle, private_keys([keys / "one.key"], {})))
    get(tmp_path, keys / "one.pub")
    list(pull(FolderLocation(tmp_path / "location"), ["*"], tmp_path / "out", policy=POLICY))  # without keys
    publish(tmp_path, newer)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(SignatureError, match="the index is not signed, and the one before was"):
        get(tmp_path, keys / "one.pub")
    assert not (tmp_path / "out" / TARGET).exists()
    get(tmp_path, keys / "one.pub", allow_downgrade=True)
    get(tmp_path, keys / "one.pub")


def test_the_verb_signs_with_a_key_or_for_a_number_of_days(tmp_path: Path, keys: Path, make: Make) -> None:
    bundle = make("1.0")
    for arguments, environment in (
        (["--key", str(keys / "one.key")], {}),
        (["--expires", "1"], {"EDGEC_SIGNING_KEY": (keys / "one.key").read_text()}),
    ):
        run = CliRunner().invoke(
            publish_command, [str(bundle.path), str(tmp_path / "location"), *arguments], env=environment
        )
        assert run.exit_code == 0, run.output
        offer = json.loads((tmp_path / "location" / "index.json").read_text())["bundles"][TARGET]["offer"]
        remote = RemoteBundle(target=TARGET, files=bundle.files, offer=offer)
        assert check_offer(remote, [keys / "one.pub"], "here")
    with pytest.raises(SignatureError, match="has expired"):
        check_offer(remote, [keys / "one.pub"], "here", datetime.now(UTC) + timedelta(days=1))
