"""Keys: what is written, what is accepted, and what a refusal says."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.bundle.provenance.keys import PASSWORD, SIGNING_KEY, generate, private_keys, public_keys
from edgec.errors import BackendUnavailableError, SignatureError, StorageError, UsageError


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=True).stdout


def test_a_pair_is_what_openssl_reads_and_its_id_what_openssl_tells(tmp_path: Path) -> None:
    key = generate(tmp_path / "fleet", {})
    assert stat.S_IMODE((tmp_path / "fleet.key").stat().st_mode) == 0o600
    public = openssl("pkey", "-in", tmp_path / "fleet.key", "-pubout")
    assert public == (tmp_path / "fleet.pub").read_bytes()
    der = openssl("pkey", "-pubin", "-outform", "DER", data=public)
    assert openssl("dgst", "-sha256", "-r", data=der).split()[0].decode() == key
    assert list(private_keys([tmp_path / "fleet.key"], {})) == list(public_keys([tmp_path / "fleet.pub"])) == [key]


def test_keys_that_openssl_makes_are_taken(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "other.key")
    openssl("pkey", "-in", tmp_path / "other.key", "-pubout", "-out", tmp_path / "other.pub")
    assert list(private_keys([tmp_path / "other.key"], {})) == list(public_keys([tmp_path / "other.pub"]))


@pytest.mark.parametrize("there", ["fleet.key", "fleet.pub"])
def test_no_file_is_overwritten_and_half_a_pair_is_not_left(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(SignatureError, match="not overwritten") as caught:
        generate(tmp_path / "fleet", {})
    assert caught.value.where == str(tmp_path / there)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(there, "mine")]
    (tmp_path / there).unlink()
    (tmp_path / there).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureError, match="not overwritten"):
        generate(tmp_path / "fleet", {})
    with pytest.raises(StorageError, match="cannot be written"):
        generate(tmp_path / "nowhere" / "fleet", {})


def test_a_passphrase_is_needed_and_checked(tmp_path: Path) -> None:
    key = generate(tmp_path / "fleet", {PASSWORD: "open sesame"})
    files = [tmp_path / "fleet.key"]
    assert b"ENCRYPTED" in files[0].read_bytes()
    assert list(private_keys(files, {PASSWORD: "open sesame"})) == [key]
    with pytest.raises(SignatureError, match="has a passphrase") as caught:
        private_keys(files, {})
    assert PASSWORD in caught.value.hint
    with pytest.raises(SignatureError, match="wrong for this key") as caught:
        private_keys(files, {PASSWORD: "open"})
    assert "open" not in caught.value.what.replace("openssl", "")


def test_a_passphrase_may_be_any_bytes_but_not_longer_than_openssl_takes(tmp_path: Path) -> None:
    key = generate(tmp_path / "odd", {PASSWORD: os.fsdecode(b"\xff")})
    assert list(private_keys([tmp_path / "odd.key"], {PASSWORD: os.fsdecode(b"\xff")})) == [key]
    with pytest.raises(SignatureError, match="wrong for this key"):
        private_keys([tmp_path / "odd.key"], {PASSWORD: "\u00e4" * 600})
    key = generate(tmp_path / "long", {PASSWORD: "x" * 1023})
    assert list(private_keys([tmp_path / "long.key"], {PASSWORD: "x" * 1023})) == [key]
    with pytest.raises(SignatureError, match="has 1200 bytes, more than 1023"):
        generate(tmp_path / "longer", {PASSWORD: "\u00e4" * 600})
    assert not list(tmp_path.glob("longer*"))


@pytest.mark.parametrize("name", ["", ".", "..", "there/.."])
def test_a_key_has_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="not a name for a key"):
        generate(Path(name), {})
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_passphrase_does_not_keep_from_using_a_plain_key(keys: Path) -> None:
    assert private_keys([keys / "one.key"], {PASSWORD: "unused"}).keys() == public_keys([keys / "one.pub"]).keys()


def test_the_environment_may_hold_the_key(keys: Path) -> None:
    text = (keys / "one.key").read_text().strip()  # as secrets of CI systems come, without the last line end
    assert private_keys([], {SIGNING_KEY: text}).keys() == public_keys([keys / "one.pub"]).keys()
    both = private_keys([keys / "two.key"], {SIGNING_KEY: text})
    assert both.keys() == public_keys([keys / "two.pub"]).keys()
    for nothing in ({}, {SIGNING_KEY: "  \n"}):
        with pytest.raises(SignatureError, match="no signing key is given") as caught:
            private_keys([], nothing)
        assert SIGNING_KEY in caught.value.hint
    with pytest.raises(SignatureError, match="not a private key"):
        private_keys([], {SIGNING_KEY: os.fsdecode(b"\xff")})
    with pytest.raises(SignatureError, match="not a private key") as caught:
        private_keys([], {SIGNING_KEY: text[:-40]})
    assert caught.value.where == SIGNING_KEY
    assert text[40:60] not in str(caught.value)


def test_files_that_are_no_keys(tmp_path: Path, keys: Path) -> None:
    rsa = tmp_path / "rsa"
    openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", f"{rsa}.key")
    openssl("pkey", "-in", f"{rsa}.key", "-pubout", "-out", f"{rsa}.pub")
    (tmp_path / "junk").write_bytes(b"\x00\xff")
    os.mkfifo(tmp_path / "pipe")
    for file, told in (
        (keys / "one.pub", "not a private key"),
        (tmp_path / "rsa.key", "not an Ed25519 key"),
        (tmp_path / "junk", "not a private key"),
        (tmp_path / "none", "cannot be read"),
        (tmp_path, "cannot be read"),
        (tmp_path / "pipe", "not a regular file"),
    ):
        with pytest.raises(SignatureError, match=told) as caught:
            private_keys([file], {})
        assert caught.value.where == str(file)
    for file, told in (
        (keys / "one.key", "this is a private key"),
        (tmp_path / "rsa.pub", "not an Ed25519 key"),
        (tmp_path / "junk", "not a public key"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(SignatureError, match=told) as caught:
            public_keys([file])
        assert caught.value.where == str(file)
    with pytest.raises(SignatureError, match="no key to verify"):
        public_keys([])


def test_without_the_extra_it_says_what_to_install(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "securesystemslib", None)  # Python's own way to say that there is no such module
    for use in (lambda: private_keys([keys / "one.key"], {}), lambda: public_keys([keys / "one.pub"])):
        with pytest.raises(BackendUnavailableError, match="not installed: securesystemslib") as caught:
            use()
        assert caught.value.hint == "pip install 'edgec[sign]'"
