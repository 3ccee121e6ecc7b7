"""Every way in which a bundle is does not match its signature, made by really tampering with it."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgec.backends.interface import Artifact
from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM, SUMS, Manifest
from edgec.bundle.provenance.accuracy import ACCURACY
from edgec.bundle.provenance.envelope import seal
from edgec.bundle.provenance.keys import private_keys, public_keys
from edgec.bundle.provenance.sign import sign_bundle
from edgec.bundle.provenance.slsa import PROVENANCE
from edgec.bundle.provenance.statement import Statement, read_statement
from edgec.bundle.provenance.verify import claimed_signers, verify_signature
from edgec.bundle.write import write_manifest
from edgec.errors import SignatureError


def refused(bundle: Path, key: Path) -> str:
    with pytest.raises(SignatureError) as caught:
        verify_signature(bundle, [key])
    return str(caught.value)


def lines(bundle: Path) -> list[bytes]:
    return (bundle / ATTESTATIONS).read_bytes().splitlines()


def write_lines(bundle: Path, *content: bytes) -> None:
    (bundle / ATTESTATIONS).write_bytes(b"".join(line + b"\n" for line in content))


def stated(bundle: Path) -> list[Statement]:
    return [read_statement(base64.b64decode(json.loads(line)["payload"])) for line in lines(bundle)]


def resign(bundle: Path, keys: Path, *content: Statement | bytes) -> None:
    held = private_keys([keys / "one.key"], {})
    payloads = [item if isinstance(item, bytes) else item.to_bytes() for item in content]
    write_lines(bundle, *(seal(payload, held).encode() for payload in payloads))


def test_a_signed_bundle_is_accepted_with_any_of_the_keys(signed: Path, keys: Path) -> None:
    (one,) = public_keys([keys / "one.pub"])
    verified = verify_signature(signed, [keys / "one.pub"])
    assert (verified.key, verified.target, verified.files) == (one, "x86-64-int8", 8)
    assert verify_signature(signed, [keys / "two.pub", keys / "one.pub"]) == verified
    assert claimed_signers(signed) == (one,)
    sign_bundle(signed, private_keys([keys / "one.key", keys / "two.key"], {}))
    for key in public_keys([keys / "one.pub", keys / "two.pub"]):
        assert key in claimed_signers(signed)
    for name in ("one.pub", "two.pub"):
        assert verify_signature(signed, [keys / name]).key == next(iter(public_keys([keys / name])))


def test_a_copy_under_another_name_is_accepted(signed: Path, keys: Path, tmp_path: Path) -> None:
    shutil.copytree(signed, tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "copy")
    for folder in ("copy", "link"):
        verify_signature(tmp_path / folder, [keys / "one.pub"])


def test_results_of_the_harness_need_no_signature(signed: Path, keys: Path) -> None:
    for name in ("result.json", "result-rpi4.json", ".result.json.123.partial"):
        (signed / "bench" / name).write_text("{}")
    verify_signature(signed, [keys / "one.pub"])
    (signed / "result.json").write_text("{}")
    assert "result.json: not signed" in refused(signed, keys / "one.pub")
    (signed / "result.json").rename(signed / "results")
    (signed / "bench" / "result.json").unlink()
    (signed / "bench" / "result.json").symlink_to("/etc/hostname")
    assert "bench/result.json: not signed" in refused(signed, keys / "one.pub")


def test_wrong_keys_and_unsigned_bundles(signed: Path, unsigned: Path, keys: Path) -> None:
    told = refused(signed, keys / "two.pub")
    for name in ("one.pub", "two.pub"):
        assert next(iter(public_keys([keys / name]))) in told
    (signed / ATTESTATIONS).unlink()
    told = refused(signed, keys / "one.pub")
    assert "is not signed" in told
    assert "edgec sign" in told
    assert claimed_signers(signed) == ()
    assert "the bundle does not exist" in refused(signed / "none", keys / "one.pub")
    assert "a bundle is a folder, this is a file" in refused(signed / MANIFEST, keys / "one.pub")


def test_what_a_terminal_would_act_on_is_escaped(signed: Path, keys: Path) -> None:
    (signed / "bench" / "\x1b]0;pwned\x07").mkdir()
    (signed / "bench" / "\x1b]0;pwned\x07" / os.fsdecode(b"\xff")).write_text("x")
    assert r"bench/\x1b]0;pwned\x07/\udcff: not signed" in refused(signed, keys / "one.pub")


def swap(bundle: Path, one: str, other: str) -> None:
    (bundle / one).rename(bundle / "aside")
    (bundle / other).rename(bundle / one)
    (bundle / "aside").rename(bundle / other)


def link(bundle: Path, name: str) -> None:
    """The same content, but by a link that may lead elsewhere later."""
    (bundle / name).rename(bundle.parent / "outside")
    (bundle / name).symlink_to(bundle.parent / "outside")


def link_folder(bundle: Path) -> None:
    shutil.move(bundle / "bench", bundle.parent / "outside")
    (bundle / "bench").symlink_to(bundle.parent / "outside")


def new_manifest(bundle: Path) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    content["gates"][0]["limit"] = 50.0
    (bundle / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True))


TAMPERINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a changed artifact": (lambda b: (b / "model.onnx").write_bytes(b"other"), "model.onnx: changed"),
    "an appended byte": (lambda b: (b / "bench/run.sh").open("ab").write(b"\n"), "bench/run.sh: changed"),
    "a changed report": (lambda b: (b / "report.html").write_text("<p>fine"), "report.html: changed"),
    "changed times": (lambda b: (b / "measurements.json").write_text("{}"), "measurements.json: changed"),
    "a changed bill of materials": (lambda b: (b / SBOM).write_text("{}"), f"{SBOM}: changed"),
    "a replaced manifest": (new_manifest, f"{MANIFEST}: changed"),
    "a missing artifact": (lambda b: (b / "model.onnx").unlink(), "model.onnx: missing"),
    "a missing report": (lambda b: (b / "report.html").unlink(), "report.html: missing"),
    "a missing manifest": (lambda b: (b / MANIFEST).unlink(), f"{MANIFEST}: missing"),
    "an extra file": (lambda b: (b / "extra.so").write_bytes(b""), "extra.so: not signed"),
    "an extra hidden file": (lambda b: (b / "bench/.x").write_bytes(b""), "bench/.x: not signed"),
    "a renamed artifact": (
        lambda b: (b / "model.onnx").rename(b / "MODEL.onnx"),
        "model.onnx: missing; MODEL.onnx: not signed",
    ),
    "files with each other's name": (lambda b: swap(b, "model.onnx", "report.html"), "model.onnx: changed; report"),
    "a link in place of a file": (lambda b: link(b, "model.onnx"), "model.onnx: not a regular file"),
    "a link in place of a folder": (link_folder, "bench/bench.py: missing; bench/run.sh: missing; bench: not signed"),
    "an extra link": (lambda b: (b / "x").symlink_to("model.onnx"), "x: not signed"),
    "an extra link to nothing": (lambda b: (b / "x").symlink_to("nothing"), "x: not signed"),
    "a pipe": (lambda b: os.mkfifo(b / "x"), "x: not signed"),
    "a folder in place of a file": (
        lambda b: ((b / "model.onnx").unlink(), (b / "model.onnx").mkdir()),
        "model.onnx: missing",
    ),
    "linked attestations": (lambda b: link(b, ATTESTATIONS), "not a regular file"),
    "attestations that are a folder": (
        lambda b: ((b / ATTESTATIONS).unlink(), (b / ATTESTATIONS).mkdir()),
        "not a regular file",
    ),
    "empty attestations": (lambda b: (b / ATTESTATIONS).write_bytes(b""), "not 2 complete lines"),
    "attestations without end": (
        lambda b: (b / ATTESTATIONS).write_bytes((b / ATTESTATIONS).read_bytes()[:-1]),
        "not 2 complete lines",
    ),
    "one attestation alone": (lambda b: write_lines(b, lines(b)[0]), "not 2 complete lines"),
    "one more attestation": (lambda b: write_lines(b, *lines(b), lines(b)[0]), "not 2 complete lines"),
    "the same attestation twice": (
        lambda b: write_lines(b, lines(b)[0], lines(b)[0]),
        f"{PROVENANCE}, not {ACCURACY}",
    ),
    "attestations the other way round": (
        lambda b: write_lines(b, *reversed(lines(b))),
        f"{ACCURACY}, not {PROVENANCE}",
    ),
    "a truncated envelope": (lambda b: write_lines(b, lines(b)[0][:-30], lines(b)[1]), "signature is invalid"),
    "huge attestations": (lambda b: os.truncate(b / ATTESTATIONS, 1 << 30), "not 2 complete lines"),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_tampering_with_files_is_refused(signed: Path, keys: Path, kind: str) -> None:
    tamper, told = TAMPERINGS[kind]
    tamper(signed)
    assert told in refused(signed, keys / "one.pub")


def envelope_with(line: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(line), **fields}, sort_keys=True, separators=(",", ":")).encode()


def first_signature(line: bytes) -> Any:
    return json.loads(line)["signatures"][0]


def other_payload(line: bytes) -> bytes:
    """The same statement with another number in it, under the old signature."""
    payload = base64.b64decode(json.loads(line)["payload"]).replace(b'"samples":400', b'"samples":900')
    return envelope_with(line, payload=base64.b64encode(payload).decode())


def respelt(line: bytes) -> bytes:
    """The same bytes of a signature in other base64: of 86 digits, four bits of the last one mean nothing."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    signature = first_signature(line)
    text = signature["sig"][:85] + digits[digits.index(signature["sig"][85]) + 1] + "=="
    assert base64.b64decode(text, validate=True) == base64.b64decode(signature["sig"])
    return envelope_with(line, signatures=[{**signature, "sig": text}])


ENVELOPES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another statement under the signature": (other_payload, "does not match the payload"),
    "no signature": (lambda x: envelope_with(x, signatures=[]), "has no signature"),
    "a signature without key id": (
        lambda x: envelope_with(x, signatures=[{"sig": first_signature(x)["sig"]}]),
        "not in DSSE format",
    ),
    "another key's id": (
        lambda x: envelope_with(x, signatures=[{**first_signature(x), "keyid": "0" * 64}]),
        "not by",
    ),
    "a key id that is text": (
        lambda x: envelope_with(x, signatures=[{**first_signature(x), "keyid": "\x1b[2J"}]),
        "64 hexadecimal digits",
    ),
    "the same signature twice": (
        lambda x: envelope_with(x, signatures=[first_signature(x), first_signature(x)]),
        "signed it twice",
    ),
    "signatures that are no list": (lambda x: envelope_with(x, signatures={}), "not in DSSE format"),
    "an empty signature": (
        lambda x: envelope_with(x, signatures=[{**first_signature(x), "sig": ""}]),
        "does not match the payload",
    ),
    "another payload type": (lambda x: envelope_with(x, payloadType="text/plain"), "payload is not application"),
    "another case of the payload type": (
        lambda x: envelope_with(x, payloadType="application/vnd.in-toto+JSON"),
        "payload is not application",
    ),
    "one more field": (lambda x: envelope_with(x, more=1), "not a DSSE envelope"),
    "a key that stands twice": (
        lambda x: x.replace(b'{"payload":', b'{"payload":"e30=","payload":', 1),
        "an object has a key twice",
    ),
    "white space": (lambda x: x.replace(b'","', b'", "', 1), "not formatted as edgec sign does"),
    "an escaped letter": (lambda x: x.replace(b'"payloadType"', b'"payload\\u0054ype"', 1), "not formatted"),
    "the same signature in other base64": (respelt, "not in canonical form"),
    "base64 of another alphabet": (
        lambda x: envelope_with(x, signatures=[{**first_signature(x), "sig": "-_" * 43 + "=="}]),
        "invalid",
    ),
    "an infinite number": (lambda x: x.replace(b"{", b'{"a":Infinity,', 1), "is not JSON"),
    "deep nesting": (lambda x: b"[" * 200_000, "nested too deeply"),
    "no object": (lambda x: b"[]", "not a JSON object"),
    "bytes that are no text": (lambda x: b"\xff" + x, "invalid"),
    "half a surrogate": (lambda x: envelope_with(x, payload="\ud800"), "invalid"),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", ENVELOPES)
def test_tampering_with_envelopes_is_refused(signed: Path, keys: Path, kind: str, number: int) -> None:
    change, told = ENVELOPES[kind]
    content = lines(signed)
    content[number] = change(content[number])
    assert content != lines(signed)
    write_lines(signed, *content)
    assert told in refused(signed, keys / "one.pub")


def test_a_signature_is_checked_before_anything_inside(signed: Path, keys: Path) -> None:
    """Payloads that no key signed are not parsed: what is told is the signature, not what is in there."""
    for payload in (b"[" * 100_000, b"\xff", b"{}"):
        line = envelope_with(lines(signed)[0], payload=base64.b64encode(payload).decode())
        write_lines(signed, line, lines(signed)[1])
        assert "does not match the payload" in refused(signed, keys / "one.pub")


def test_attestations_of_another_bundle_are_refused(
    signed: Path, keys: Path, tmp_path: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    other = Path(shutil.copytree(signed, tmp_path / "other"))
    (other / "model.onnx").write_bytes(b"another model")
    write_manifest(other, make_manifest(other, plain_artifact, target="rpi4-int8"))
    sign_bundle(other, private_keys([keys / "one.key"], {}))
    assert verify_signature(other, [keys / "one.pub"]).target == "rpi4-int8"
    mine, theirs = lines(signed), lines(other)
    write_lines(signed, *theirs)
    assert f"{MANIFEST}: changed" in refused(signed, keys / "one.pub")
    for mixed in ([mine[0], theirs[1]], [theirs[0], mine[1]]):
        write_lines(signed, *mixed)
        assert "do not belong together" in refused(signed, keys / "one.pub")


def test_one_key_must_have_signed_all(signed: Path, keys: Path) -> None:
    one = lines(signed)
    sign_bundle(signed, private_keys([keys / "two.key"], {}))
    write_lines(signed, one[0], lines(signed)[1])
    with pytest.raises(SignatureError, match="do not belong together"):
        verify_signature(signed, [keys / "one.pub", keys / "two.pub"])


def without(statement: Statement, *names: str, **more: str) -> Statement:
    subjects = {name: digest for name, digest in statement.subjects.items() if name not in names}
    return Statement(statement.predicate_type, {**subjects, **more}, statement.predicate)


def test_signed_statements_that_say_too_little_are_refused(signed: Path, keys: Path) -> None:
    """The right key is not enough: it may have signed something else."""
    provenance, accuracy = stated(signed)
    resign(signed, keys, provenance, accuracy)
    verify_signature(signed, [keys / "one.pub"])
    for name in (MANIFEST, SUMS, SBOM):
        resign(signed, keys, without(provenance, name), without(accuracy, name))
        assert f"{name}: not covered by the signature; {name}: not signed" in refused(signed, keys / "one.pub")
    outside = {"../outside": provenance.subjects["model.onnx"]}
    shutil.copy(signed / "model.onnx", signed.parent / "outside")
    resign(signed, keys, without(provenance, **outside), without(accuracy, **outside))
    assert "../outside: missing" in refused(signed, keys / "one.pub")
    resign(signed, keys, Statement("https://slsa.dev/provenance/v0.2", provenance.subjects, {}), accuracy)
    assert f"v0.2, not {PROVENANCE}" in refused(signed, keys / "one.pub")
    resign(signed, keys, Statement(PROVENANCE, provenance.subjects, {}), accuracy)
    assert "has no target" in refused(signed, keys / "one.pub")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x.replace(b"Statement/v1", b"Statement/v0.1"), "it is not a https://in-toto.io/Statement/v1"),
        (lambda x: x.replace(b'"subject":[', b'"subjects":['), "not a complete"),
        (lambda x: x.replace(b'"subject":[', b'"subject":[{"name":"x"},'), "no SHA-256"),
        (lambda x: x.replace(b'"sha256"', b'"sha1"'), "no SHA-256"),
        (lambda x: x.replace(b'"subject":[', b'"subject":[1,'), "no SHA-256"),
        (lambda x: x.replace(b'"subject":[', b'"subject":[],"subject":['), "an object has a key twice"),
        (lambda x: x.replace(b'"name":"report.html"', b'"name":"model.onnx"'), "names a file twice"),
        (lambda x: x[:-1], "not a statement"),
        (lambda x: b"[]", "not a JSON object"),
    ],
)
def test_signed_payloads_that_are_no_statements(
    signed: Path, keys: Path, change: Callable[[bytes], bytes], told: str
) -> None:
    provenance, accuracy = stated(signed)
    changed = change(provenance.to_bytes())
    assert changed != provenance.to_bytes()
    resign(signed, keys, changed, accuracy)
    assert told in refused(signed, keys / "one.pub")


@pytest.fixture
def restored(signed: Path) -> dict[Path, bytes]:
    """All files of the bundle with their content."""
    return {file: file.read_bytes() for file in sorted(signed.rglob("*")) if file.is_file()}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_of_any_file_is_refused(
    signed: Path, keys: Path, restored: dict[Path, bytes], data: st.DataObject
) -> None:
    envelope = signed / ATTESTATIONS
    file = data.draw(st.sampled_from([*restored, *[envelope] * len(restored)]))  # half of all in the envelopes
    content = bytearray(restored[file])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        refused(signed, keys / "one.pub")
    finally:
        file.write_bytes(restored[file])
    verify_signature(signed, [keys / "one.pub"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_shortened_file_is_refused(
    signed: Path, keys: Path, restored: dict[Path, bytes], data: st.DataObject
) -> None:
    file = data.draw(st.sampled_from(sorted(restored)))
    file.write_bytes(restored[file][: data.draw(st.integers(0, len(restored[file]) - 1))])
    try:
        refused(signed, keys / "one.pub")
    finally:
        file.write_bytes(restored[file])


def test_damaged_attestations_are_told_without_a_key_too(signed: Path) -> None:
    write_lines(signed, *lines(signed)[:1])
    with pytest.raises(SignatureError, match="damaged"):
        claimed_signers(signed)
    write_lines(signed, b"{}", b"{}")
    with pytest.raises(SignatureError, match="damaged"):
        claimed_signers(signed)
