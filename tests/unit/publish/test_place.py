"""What replaces what: names, versions, and the record of what a place has had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgec.bundle.check import read_bundle
from edgec.bundle.manifest import MANIFEST
from edgec.bundle.write import digest_file
from edgec.cli.pull import command as pull_command
from edgec.errors import PublishError, StorageError
from edgec.publish.collect import collect_bundles
from edgec.publish.folder import FolderStore
from edgec.publish.location import FolderLocation
from edgec.publish.place import Accepted
from edgec.publish.pull import pull
from edgec.publish.transfer import RetryPolicy

TARGET = "x86-64-int8"
POLICY = RetryPolicy(timeout=0.2, retries=0, wait=0.01)
Offer = Callable[..., str]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def offer(tmp_path: Path, make_bundle: Callable[..., Path]) -> Offer:
    """Publish a bundle of a name and version; returns the SHA-256 of its manifest."""
    numbers = iter(range(1000))

    def publish(name: str, version: str | None = None, folder: str = "location") -> str:
        bundle = make_bundle(tmp_path / "built" / str(next(numbers)), name=name, version=version)
        found = collect_bundles([bundle], lambda step: None)
        store = FolderStore(FolderLocation(tmp_path / folder), POLICY)
        store.publish(found, add=False, progress=lambda step: None)
        return digest_file(bundle / MANIFEST).sha256

    return publish


def get(tmp_path: Path, folder: str = "location", **accepted: bool) -> list[str]:
    """Pull; returns the steps."""
    steps: list[str] = []
    location = FolderLocation(tmp_path / folder)
    list(pull(location, ["*"], tmp_path / "out", accepted=Accepted(**accepted), policy=POLICY, progress=steps.append))  # type: ignore[arg-type]
    return steps


def present(tmp_path: Path) -> str:
    return read_bundle(tmp_path / "out" / TARGET).title


def refused(tmp_path: Path, match: str, **accepted: bool) -> PublishError:
    """A pull that must be refused, and must change nothing."""
    bundle = tmp_path / "out" / TARGET
    before = {path: digest_file(path) for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(PublishError, match=match) as caught:
        get(tmp_path, **accepted)
    assert {path: digest_file(path) for path in bundle.rglob("*") if path.is_file()} == before
    assert "nothing was changed" in caught.value.hint
    assert caught.value.where == f"{tmp_path / 'location'}: {TARGET}"
    return caught.value


def test_a_newer_version_replaces_and_is_told(tmp_path: Path, offer: Offer) -> None:
    old = offer("digits", "1.9")
    get(tmp_path)
    new = offer("digits", "1.10")  # as text it is smaller
    steps = get(tmp_path)
    assert f"{TARGET}: digits 1.9 is replaced by digits 1.10, manifest {old} by {new}" in steps
    assert present(tmp_path) == "digits 1.10"
    assert not any("replaced" in step for step in get(tmp_path))


def test_an_older_version_is_refused_before_its_files_are_sent(tmp_path: Path, offer: Offer) -> None:
    offer("digits", "1.4")
    get(tmp_path)
    for older in ("1.3", "1.4rc1", "1.4.dev2", None):
        offer("digits", older)
        (tmp_path / "location" / TARGET / "model.onnx").unlink()
        error = refused(tmp_path, r"1\.4(, which)? has been in its place")
        assert "--allow-downgrade" in error.hint
        refused(tmp_path, "digits", replace_model=True)
    offer("digits", "1.3")
    get(tmp_path, allow_downgrade=True)
    assert present(tmp_path) == "digits 1.3"
    get(tmp_path)  # it is the newest that is wanted there now


def test_the_same_version_built_anew_replaces(tmp_path: Path, offer: Offer, make_bundle: Callable[..., Path]) -> None:
    offer("digits", "1.4")
    get(tmp_path)
    offer("digits", "1.4.0")
    get(tmp_path)
    assert present(tmp_path) == "digits 1.4.0"


def test_another_name_is_refused(tmp_path: Path, offer: Offer) -> None:
    offer("digits", "1.4")
    get(tmp_path)
    for name, version in (("faces", "2.0"), ("faces", None), ("", None)):
        offer(name, version)
        error = refused(tmp_path, "this is the place of digits", allow_downgrade=True)
        assert "--replace-model" in error.hint
    offer("faces", "1.0")
    get(tmp_path, replace_model=True)
    assert present(tmp_path) == "faces 1.0"
    offer("digits", "1.3")
    refused(tmp_path, "this is the place of faces")
    refused(tmp_path, r"digits 1\.3 is older than 1\.4", replace_model=True)  # the way back is no way round
    get(tmp_path, replace_model=True, allow_downgrade=True)
    assert present(tmp_path) == "digits 1.3"


def test_the_verb_has_a_flag_for_each(tmp_path: Path, offer: Offer, capfd: pytest.CaptureFixture[str]) -> None:
    def run(*flags: str) -> Result:
        return CliRunner().invoke(pull_command, [str(tmp_path / "location"), "--out", str(tmp_path / "out"), *flags])

    offer("digits", "1.4")
    assert run().exit_code == 0
    assert f"{TARGET}: pulled: digits 1.4" in capfd.readouterr().err
    offer("faces", "1.0")
    assert isinstance(run("--allow-downgrade").exception, PublishError)
    assert run("--replace-model").exit_code == 0
    offer("faces", "0.9")
    assert isinstance(run("--replace-model").exception, PublishError)
    assert run("--allow-downgrade").exit_code == 0
    assert "faces 1.0 is replaced by faces 0.9" in capfd.readouterr().err
    assert present(tmp_path) == "faces 0.9"


@pytest.mark.parametrize("how", ["removed", "damaged", "another"])
def test_what_was_there_is_not_forgotten(
    tmp_path: Path, offer: Offer, how: str, make_bundle: Callable[..., Path]
) -> None:
    offer("digits", "1.4")
    get(tmp_path)
    if how == "removed":
        shutil.rmtree(tmp_path / "out")
    elif how == "damaged":
        (tmp_path / "out" / TARGET / MANIFEST).write_text("{")
    else:
        shutil.rmtree(tmp_path / "out" / TARGET)
        make_bundle(tmp_path / "out", name="digits", version="1.2")
    offer("digits", "1.3")
    refused(tmp_path, r"digits 1\.3 is older than 1\.4")
    offer("faces", "3")
    refused(tmp_path, "this is the place of digits")
    offer("digits", "1.4")
    get(tmp_path)
    assert present(tmp_path) == "digits 1.4"


def test_a_place_that_was_set_back_by_hand_is_told(tmp_path: Path, offer: Offer) -> None:
    """The bundle that is offered is there already, and yet an older one than was."""
    offer("digits", "1.4")
    get(tmp_path)
    offer("digits", "1.3")
    shutil.rmtree(tmp_path / "out" / TARGET)
    shutil.copytree(tmp_path / "location" / TARGET, tmp_path / "out" / TARGET)
    refused(tmp_path, r"digits 1\.3 is older than 1\.4")


def test_other_places_have_versions_of_their_own(tmp_path: Path, offer: Offer) -> None:
    offer("digits", "1.4")
    get(tmp_path)
    offer("digits", "1.3")
    list(pull(FolderLocation(tmp_path / "location"), ["*"], tmp_path / "other", policy=POLICY))
    assert read_bundle(tmp_path / "other" / TARGET).title == "digits 1.3"
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(PublishError, match="is older"):
        list(pull(FolderLocation(tmp_path / "location"), ["*"], tmp_path / "link", policy=POLICY))


def test_records_that_cannot_be_read_or_written(tmp_path: Path, offer: Offer, state: Path) -> None:
    offer("digits", "1.4")
    get(tmp_path)
    (record,) = (state / "edgec" / "pulled").iterdir()
    assert json.loads(record.read_text()) == {
        "place": str(tmp_path / "out" / TARGET), "name": "digits", "versions": {"digits": "1.4"}, "signed": False,
    }  # fmt: skip
    record.write_text('{"name": 1}')
    offer("digits", "1.5")
    with pytest.raises(StorageError, match="record of pulled versions is damaged") as caught:
        get(tmp_path)
    assert (caught.value.where, present(tmp_path)) == (str(record), "digits 1.4")
    shutil.rmtree(state)
    state.write_text("")
    with pytest.raises(StorageError, match="record of pulled versions cannot be read") as caught:
        get(tmp_path)
    assert "XDG_STATE_HOME" in caught.value.hint
    state.unlink()
    state.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="record of pulled versions: cannot write") as caught:
        get(tmp_path)
    assert "XDG_STATE_HOME" in caught.value.hint
    assert present(tmp_path) == "digits 1.4"


def test_bundles_of_earlier_versions_of_edgec_are_replaced_as_before(tmp_path: Path, offer: Offer, state: Path) -> None:
    offer("")
    get(tmp_path)
    assert not state.exists()
    offer("digits", "1.0")
    assert any("a bundle without a name is replaced by digits 1.0" in step for step in get(tmp_path))
