"""No string of a bundle reaches a terminal, a report or Markdown as anything but text, whatever verb reads it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact
from edgec.bundle.check import read_bundle
from edgec.bundle.manifest import MANIFEST, MEASUREMENTS, Manifest, Measurements
from edgec.bundle.write import write_manifest, write_measurements
from edgec.cli.main import run
from edgec.errors import BundleError, printable
from edgec.model.spec import ModelSource
from edgec.verify.records import Measurement

CLI = Path(__file__).parents[3] / "edgec" / "cli"
EVIL = "\x1b]0;owned\x07\u202eevil\r\n# FORGED\x9b2J"
Key = str | int
Leaf = tuple[Key, ...]


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "x86-64-int8"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    source = ModelSource(format="python", path="model.py", sha256="0" * 64, entry="Net", imported={"a.py": "1" * 64})
    write_manifest(folder, make_manifest(folder, plain_artifact, source=source))
    write_measurements(folder, Measurements(measurements=(make_measurement(),)))
    return folder


def leaves(value: Any, above: Leaf = ()) -> Iterator[Leaf]:
    """Where each string of a JSON value is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*above, key))
    if isinstance(value, str):
        yield above


def put(value: Any, leaf: Leaf, text: str) -> None:
    for key in leaf[:-1]:
        value = value[key]
    value[leaf[-1]] = text


def write(bundle: Path, folder: Path, hostile: tuple[Leaf, ...]) -> Path:
    """A copy of the bundle whose manifest has `EVIL` and a number in the strings `hostile`."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = json.loads((bundle / MANIFEST).read_text())
    for number, leaf in enumerate(hostile):
        put(content, leaf, f"{EVIL}{number}")
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


def shown(arguments: list[str | Path], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    text = captured.out + captured.err
    assert [letter for letter in text if not (letter.isprintable() or letter == "\n")] == [], arguments
    assert not any(line.startswith("# FORGED") for line in text.split("\n")), arguments
    assert code != 70, text
    return code, text


def test_each_string_of_a_manifest(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = list(leaves(json.loads((bundle / MANIFEST).read_text())))
    assert len(places) > 100
    accepted = []
    for leaf in places:
        hostile = write(bundle, tmp_path / "hostile" / bundle.name, (leaf,))
        for verb in (["inspect", hostile], ["verify", "--digests", hostile], ["compare", bundle, hostile]):
            code, _ = shown(verb, capfd)
        accepted += [leaf] if code == 0 else []
    free = [leaf for leaf in accepted if leaf[0] not in ("files", "artifacts")]
    assert len(free) > 30  # the others are refused, with messages that were looked at above
    _every_verb(write(bundle, tmp_path / "all" / bundle.name, tuple(free)), bundle, tmp_path, capfd)


def _every_verb(hostile: Path, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keys = generate_keys(tmp_path, capfd)
    out, summary, archive = tmp_path / "out", tmp_path / "summary.md", tmp_path / f"{bundle.name}.tar.gz"
    code, text = shown(["inspect", hostile], capfd)
    assert code == 0, text
    for arguments in (
        ["inspect", hostile],
        ["inspect", "--json", hostile],
        ["inspect", hostile / "model.onnx"],
        ["verify", hostile],
        ["compare", bundle, hostile, "--summary", summary, "--fail-on", "accuracy=0,latency=0%"],
        ["compare", "--json", hostile, bundle],
        ["bench", hostile],
        ["validate", hostile, "--data", tmp_path / "none.npz"],
        ["sign", hostile, "--key", keys],
        ["verify", "--digests", hostile, "--key", keys.with_suffix(".pub")],
        ["publish", hostile, tmp_path / "published"],
        ["pull", tmp_path / "published", "--out", out],
        ["pull", tmp_path / "published", "--out", out, "--key", keys.with_suffix(".pub")],
        ["pack", hostile, "--out", tmp_path],
        ["unpack", archive, "--out", tmp_path / "unpacked"],
    ):
        shown(arguments, capfd)
    text = summary.read_text()
    assert [letter for letter in text if not (letter.isprintable() or letter == "\n")] == []
    assert "\n# FORGED" not in text


def generate_keys(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    shown(["keygen", "--out", tmp_path / "one.key"], capfd)
    return tmp_path / "one.key"


def test_names_of_files_and_keys(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    record = content["files"]["model.onnx"]
    for table in ("files", "toolchain", "plan"):
        hostile = write(bundle, tmp_path / "hostile" / bundle.name, ())
        wrong = {**content, table: {**content[table], EVIL: record if table == "files" else "1"}}
        (hostile / MANIFEST).write_text(json.dumps(wrong))
        for verb in (["inspect", hostile], ["verify", "--digests", hostile], ["compare", bundle, hostile]):
            shown(verb, capfd)
    (hostile / EVIL.replace("/", "")).write_text("x")
    assert shown(["verify", "--digests", hostile], capfd)[0] == BundleError.exit_code


def test_strings_are_escaped_where_they_are_read(bundle: Path, tmp_path: Path) -> None:
    hostile = write(bundle, tmp_path / bundle.name, (("source", "path"), ("target", "device", "description")))
    assert read_bundle(hostile).source.path == printable(EVIL) + "0"
    assert read_bundle(hostile, as_written=True).source.path == f"{EVIL}0"
    assert read_bundle(bundle) == read_bundle(bundle, as_written=True)


def test_measurements_are_read_the_same_way(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for leaf in leaves(json.loads((bundle / MEASUREMENTS).read_text())):
        hostile = write(bundle, tmp_path / bundle.name, ())
        content = json.loads((bundle / MEASUREMENTS).read_text())
        put(content, leaf, EVIL)
        (hostile / MEASUREMENTS).write_text(json.dumps(content))
        shown(["compare", bundle, hostile], capfd)


def test_a_report_has_no_text_that_changes_how_it_reads(
    tmp_path: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    from edgec.passes.coverage import Coverage
    from edgec.report.html import render_report

    (tmp_path / "model.onnx").write_bytes(b"x")
    gap = Coverage(subject=f"<b>{EVIL}", state="float32", reason=EVIL)
    page = render_report(make_manifest(tmp_path, plain_artifact, coverage=(gap,)), ())
    assert r"&lt;b&gt;\x1b]0;owned\x07\u202eevil" in page
    assert [letter for letter in page if not (letter.isprintable() or letter in "\n\t")] == []


def test_a_verb_cannot_print_past_the_one_module_that_escapes() -> None:
    for file in CLI.rglob("*.py"):
        if file.name == "echo.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write"), file
            if called in ("Console", "rich.print"):
                raise AssertionError(f"{file}: use SafeConsole")
