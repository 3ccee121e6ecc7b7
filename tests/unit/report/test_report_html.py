"""The report shows all that was measured and all that was not done, and is safe to open."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.backends.interface import Artifact, OpRecord
from edgec.bundle.manifest import ArtifactRecord, Manifest, PassTime
from edgec.model.spec import ModelSource, TensorSpec
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe
from edgec.report.html import render_report
from edgec.report.pictures import pictures
from edgec.verify.records import (
    CandidateScore,
    GateResult,
    Measurement,
    OutputFidelity,
    RungRecord,
    SlowOp,
    Speed,
)

HOSTILE = "<script>alert('x')</script>\"><b>&amp;"


class Reader(HTMLParser):
    """Tags, attributes and the text of each table row."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.in_row = False
        self.feed(page)
        self.close()
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
            self.in_row = True
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_row = self.in_row and tag not in ("tr", "table")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_row and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(bytes(2048))
    return tmp_path


def gate(**fields: Any) -> GateResult:
    plain = {"gate": "max_drop", "artifact": "model.onnx", "runtime": "onnxruntime", "limit": 1.0, "value": 0.75}
    return GateResult.model_validate({**plain, "state": "met", "margin": 0.25, **fields})


def test_what_was_measured(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    manifest = make_manifest(folder, plain_artifact)
    page = Reader(render_report(manifest, [make_measurement()]))
    assert page.rows[1] == [
        "model.onnx", "onnxruntime 1.2.3", "2.0", "top1, %", "97.25", "96.50", "0.75 (-0.25 to 1.75)", "98.50 %",
        "33.2", "1.125", "1.500", "-", "81",
    ]  # fmt: skip
    assert ["x", "x", "float32", "1 x 4", "-"] in page.rows
    assert ["y", "y_q", "float32", "1 x 2", "-"] in page.rows
    assert ["3", "Conv", "int8", ""] in page.rows
    assert "1 of 1 gates met" in page.text
    for digest in (manifest.target_digest, manifest.source.sha256, manifest.artifacts[0].sha256):
        assert digest in page.text


def test_gates_coverage_and_failures_are_shown(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    unmeasured = gate(gate="latency_ms", limit=3.0, value=None, state="not measured", margin=None, reason="other CPU")
    gaps = (
        Coverage(subject="conv1", state="float32", reason="its weights are shared"),
        Coverage(subject="model.tflite", state="not built", reason="no such op"),
    )
    manifest = make_manifest(folder, plain_artifact, gates=(gate(default=True), unmeasured), coverage=gaps)
    failed = make_measurement(
        runtime="torch", failure="it crashed", metric=None, agreement=None, agreement_low=None, fidelity=(), ops=(),
        latency=None, peak_rss_mb=None, judged=False,
    )  # fmt: skip
    page = Reader(render_report(manifest, [make_measurement(), failed]))
    assert ["model.onnx", "torch 1.2.3 (not judged)", "2.0", "it crashed"] in page.rows
    assert ["model.onnx", "onnxruntime", "max_drop (default)", "1.00", "0.75", "0.25", "met", ""] in page.rows
    assert ["model.onnx", "onnxruntime", "latency_ms", "3.00", "-", "-", "not measured", "other CPU"] in page.rows
    assert [list(gap.model_dump().values()) for gap in gaps] == [
        row for row in page.rows if row[0] in ("conv1", "model.tflite")
    ]
    assert "1 of 2 gates met, 1 not measured" in page.text


def test_ops_that_stayed_float_are_shown_with_their_reason(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    ops = (OpRecord(name="a", op="Softmax", dtype="float32", reason="no integer kernel"),)
    exact = (OutputFidelity(output="y", sqnr_db=float("inf"), max_abs_error=0.0),)
    measured = make_measurement(ops=ops, fidelity=exact, latency=None, peak_rss_mb=None, metric=None, agreement=None)
    page = Reader(render_report(make_manifest(folder, plain_artifact), [measured]))
    assert ["1", "Softmax", "float32", "no integer kernel"] in page.rows
    assert page.rows[1][3:] == ["-", "-", "-", "-", "-", "∞", "-", "-", "-", "-"]


def test_groups_of_channels_are_told_one_by_one(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    outputs = (
        OutputFidelity(output="y[0:4]", sqnr_db=35.25, max_abs_error=2.0, channels="0:4"),
        OutputFidelity(output="y[4:84]", sqnr_db=15.5, max_abs_error=0.125, channels="4:84"),
        OutputFidelity(output="ids", sqnr_db=20.0, max_abs_error=3.0, equal=0.995),
    )
    short = make_manifest(folder, plain_artifact).gates[0].model_copy(update={"state": "short"})
    manifest = make_manifest(folder, plain_artifact, gates=(short,))
    page = Reader(render_report(manifest, [make_measurement(fidelity=outputs)]))
    assert ["model.onnx", "onnxruntime", "y[4:84]", "15.5", "0.1250", "-"] in page.rows
    assert ["model.onnx", "onnxruntime", "ids", "20.0", "3.0000", "99.50 %"] in page.rows
    assert "0 of 1 gates met, 1 below the goal" in page.text
    assert "Each output" not in Reader(render_report(manifest, [make_measurement()])).text


def test_passes_with_their_times(
    folder: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    record = {"name": "fold", "options": {"amount": 0.5}, "state": "changed", "summary": "folded 4", "coverage": ()}
    manifest = make_manifest(folder, plain_artifact)
    (one,) = manifest.artifacts
    passes = ({**record, "before": "a", "after": "b"}, {**record, "name": "other", "before": "b", "after": "b"})
    listed = one.model_dump() | {"artifact": plain_artifact, "passes": passes}
    manifest = Manifest.model_validate({**dict(manifest), "artifacts": (listed,)})
    page = Reader(render_report(manifest, [], [PassTime(artifact="model.onnx", name="fold", seconds=1.25)]))
    assert ["fold", "amount=0.5", "changed", "folded 4", "1.25"] in page.rows
    assert ["other", "amount=0.5", "changed", "folded 4", "-"] in page.rows


def rung(name: str, state: str, recipe: Recipe | None = None, **fields: Any) -> dict[str, Any]:
    return RungRecord.model_validate(
        {"artifact": "model.onnx", "rung": name, "state": state, "recipe": recipe, "sqnr_db": 12.5, **fields}
    ).model_dump()


def with_record(manifest: Manifest, **fields: Any) -> Manifest:
    """The manifest with other fields of its one artifact."""
    (one,) = manifest.artifacts
    return manifest.model_copy(update={"artifacts": (ArtifactRecord.model_validate(one.model_dump() | fields),)})


def test_how_an_artifact_was_found(
    folder: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    chosen = Recipe(calibration="entropy", equalize=True, float_layers=("conv1",))
    candidates = (
        CandidateScore(recipe=Recipe(), sqnr_db=10.25, agreement=0.5),
        CandidateScore(recipe=Recipe(calibration="mse"), sqnr_db=None, agreement=None, failure="no such method"),
        CandidateScore(recipe=chosen, sqnr_db=float("inf"), agreement=None, chosen=True),
    )
    rungs = (
        rung("min-max", "failed", Recipe(), reason="onnxruntime: max_drop 1: 3.5", sqnr_db=float("-inf")),
        rung("corrections", "skipped", None, reason="too few layers", sqnr_db=None),
        rung("calibration", "met", chosen, candidates=candidates),
    )
    values = enumerate((30.0, 29.0, 20.0))
    layers = tuple({"layer": f"layer{k}", "op": "conv2d", "sqnr_db": db} for k, db in values)
    plain = make_manifest(folder, plain_artifact)
    page = Reader(render_report(with_record(plain, recipe=chosen, rungs=rungs, layers=layers), []))
    assert "Its recipe: entropy ranges, equalized, 1 layer in float (conv1)." in " ".join(page.text.split())
    assert ["min-max", "failed", "min-max ranges", "-∞", "onnxruntime: max_drop 1: 3.5"] in page.rows
    assert ["corrections", "skipped", "-", "-", "too few layers"] in page.rows
    assert ["calibration", "met", "entropy ranges, equalized, 1 layer in float", "12.5", ""] in page.rows
    assert ["min-max ranges", "10.2", "50.0 %", ""] in page.rows
    assert ["MSE ranges", "no such method"] in page.rows
    assert ["entropy ranges, equalized, 1 layer in float", "∞", "-", "yes"] in page.rows
    assert "svg" in page.tags
    assert [value for name, value in page.attributes if name == "class"].count("weak") == 1  # the fall to 20 dB
    assert "layer2: 20.0 dB: conv2d" in page.text
    assert "Where the error enters" not in Reader(render_report(plain, [])).text


def test_a_fallback_is_loud_and_first(
    folder: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    gap = Coverage(subject="model.onnx", state="fell back to fp16", reason="no rung met the gates")
    artifact = plain_artifact.model_copy(update={"precision": "fp16"})
    manifest = with_record(make_manifest(folder, artifact, coverage=(gap,)), rungs=(rung("fallback", "met", Recipe()),))
    text = render_report(manifest, [])
    loud = text.index('<p class="loud">model.onnx FELL BACK TO FP16: no rung met the gates</p>')
    assert text.index("<h1>") < loud < text.index("<h2>")
    page = Reader(text)
    assert "It is fp16 instead of int8" in page.text
    assert ["fallback", "met", "-", "12.5", ""] in page.rows
    assert 'class="loud"' not in render_report(make_manifest(folder, plain_artifact), [])


def test_an_artifact_that_is_slower_than_float_is_loud_and_its_ops_are_named(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    op = SlowOp(op="Softmax", dtype="float32", count=2, ms=0.25, float_ms=None, reason="no integer kernel")
    slow = Speed(ratio=0.71, low=0.66, high=0.77, float_ms=1.0, runs=20, blame=(op,))
    text = render_report(make_manifest(folder, plain_artifact), [make_measurement(speed=slow)])
    assert '<p class="loud">model.onnx in onnxruntime is slower than its float32 twin' in text
    page = Reader(text)
    assert page.rows[1][-2] == "0.71 (0.66 to 0.77)"
    assert "2 x Softmax (float32) 0.250 ms: no integer kernel" in page.text
    fast = slow.model_copy(update={"ratio": 2.0, "low": 1.9, "high": 2.1})
    text = render_report(make_manifest(folder, plain_artifact), [make_measurement(speed=fast)])
    assert Reader(text).rows[1][-2] == "2.00 (1.90 to 2.10)"
    assert 'class="loud"' not in text


def test_nothing_to_tell(folder: Path, make_manifest: Callable[..., Manifest]) -> None:
    manifest = make_manifest(folder, gates=(), coverage=(), calibration=None, evaluation=None, target="rpi4-fp32")
    page = Reader(render_report(manifest, []))
    assert "no gates were set" in page.text
    assert "Nothing: every layer computes in the target's precision." in page.text


def test_names_that_users_give_are_text_only(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    binding = plain_artifact.inputs[0].model_copy(update={"name": HOSTILE, "artifact_name": HOSTILE})
    artifact = plain_artifact.model_copy(update={"inputs": (binding,), "engine": HOSTILE})
    plain = make_manifest(folder)
    assert plain.evaluation is not None
    data = plain.evaluation.model_copy(update={"origin": HOSTILE, "notes": (HOSTILE,)})
    manifest = make_manifest(
        folder,
        artifact,
        source=ModelSource(format="python", path=HOSTILE, sha256="0", weights=HOSTILE, weights_sha256=HOSTILE),
        evaluation=data,
        calibration=data,
        coverage=(Coverage(subject=HOSTILE, state="skipped", reason=HOSTILE),),
        gates=(gate(gate=HOSTILE, reason=HOSTILE),),
        toolchain={HOSTILE: HOSTILE},
    )
    metric = make_measurement().metric
    assert metric is not None
    metric = metric.model_copy(update={"name": HOSTILE, "interval": HOSTILE})
    ops = (OpRecord(name=HOSTILE, op=HOSTILE, dtype=HOSTILE, reason=HOSTILE),)
    recipe = Recipe(float_layers=(HOSTILE,))
    manifest = with_record(
        manifest,
        recipe=recipe,
        rungs=(
            rung(
                HOSTILE,
                "met",
                recipe,
                reason=HOSTILE,
                candidates=({"recipe": recipe, "sqnr_db": None, "agreement": None, "failure": HOSTILE},),
            ),
        ),
        layers=({"layer": HOSTILE, "op": HOSTILE, "sqnr_db": 20.0},),
    )
    page = render_report(
        manifest, [make_measurement(metric=metric, ops=ops), make_measurement(failure=HOSTILE, runtime=HOSTILE)]
    )
    assert "<script" not in page
    assert "<b>" not in page
    found = Reader(page)
    assert found.tags.isdisjoint({"script", "b"})
    assert found.text.count(HOSTILE) >= 25
    assert ("title", HOSTILE) in found.attributes


def test_the_page_needs_nothing_from_outside(
    folder: Path,
    make_manifest: Callable[..., Manifest],
    make_measurement: Callable[..., Measurement],
    plain_artifact: Artifact,
) -> None:
    text = render_report(make_manifest(folder, plain_artifact), [make_measurement()])
    assert not re.search(r"https?://|//[a-z]|@import|url\(", text)
    page = Reader(text)
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "class", "colspan", "title"}
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    assert text.startswith("<!doctype html>")
    assert text == render_report(make_manifest(folder, plain_artifact), [make_measurement()])


def test_the_first_sample_is_shown_as_it_was_fed(
    folder: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact
) -> None:
    manifest = make_manifest(folder, plain_artifact)
    assert manifest.evaluation is not None
    line = "2x3 RGB -> <b> -> float32 [1,3,2,3], -1 to 1"
    data = manifest.evaluation.model_copy(
        update={"inputs": (TensorSpec(name="x", shape=(1, 3, 2, 3)),), "first_sample": (line,)}
    )
    manifest = manifest.model_copy(update={"evaluation": data})
    tensor = np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 3, 2, 3)
    text = render_report(manifest, [], sample={"x": tensor})
    page = Reader(text)
    assert line in page.text
    shown = png(text)
    assert np.array_equal(shown, np.rint((tensor[0] + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0))
    assert "channels shown as red, green, blue; -1 (black) to 1 (white)" in page.text
    assert text == render_report(manifest, [], sample={"x": tensor})
    settings = {**manifest.project.settings, "preprocess": {"color": "bgr"}}
    project = manifest.project.model_copy(update={"settings": settings})
    swapped = render_report(manifest.model_copy(update={"project": project}), [], sample={"x": tensor})
    assert np.array_equal(png(swapped), shown[:, :, ::-1])
    assert "img" not in Reader(render_report(manifest, [])).tags


def png(text: str) -> Any:
    """The pixels of the one picture of a page."""
    (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 8, 8, 3), (8, 8)),
        ((4, 1, 28, 20), (20, 28)),
        ((1, 49, 10), (10, 49)),
        ((1, 3, 640, 480), (240, 320)),
        ((1, 40), None),
        ((1, 1, 16000), None),
        ((1, 12, 8, 8), None),
        ((), None),
    ],
)
def test_what_is_a_picture(shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    found = [one for one in pictures({"x": np.zeros(shape, np.float32)}) if one.source]
    assert [Image.open(io.BytesIO(base64.b64decode(one.source.split(",")[1]))).size for one in found] == (
        [size] if size else []
    )
