"""The index of a bundle, ``manifest.json``: the same inputs, toolchain and instruction set give the same bytes.

Nothing in it depends on the clock or on where the project or the bundle lies. What was timed (latency, peak memory,
seconds of each pass, gates of times) and the CPU's name are in ``measurements.json`` beside it and shown in
``report.html``; these two, what signing adds, and the results that the harness writes are the only files of a bundle
without a digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from edgec.backends.interface import Artifact, LayerFidelity, OpRecord
from edgec.dataset.spool import SpoolInfo
from edgec.frozen import Frozen
from edgec.machine import Isa, Platform
from edgec.model.spec import ModelSource
from edgec.passes.contract import PassRecord, PassState
from edgec.passes.coverage import Coverage
from edgec.project.spec import VersionText
from edgec.quant.recipe import Recipe
from edgec.target.spec import Target
from edgec.verify.ranges import RangeRecord
from edgec.verify.records import TIMED, GateResult, Measurement, MetricResult, OutputFidelity, RungRecord

SCHEMA = 2
"""Version of the manifest's layout; a reader refuses any other."""
MANIFEST = "manifest.json"
MEASUREMENTS = "measurements.json"
REPORT = "report.html"
SUMS = "SHA256SUMS"
"""Digests of the other files in sha256sum's format, for machines without Python."""
SBOM = "sbom.cdx.json"
"""The bill of materials (CycloneDX) that `edgec sign` adds."""
ATTESTATIONS = "bundle.intoto.jsonl"
"""Its signed statements about all other files: DSSE envelopes, one a line."""


class FileRecord(Frozen):
    """Digest and size in bytes of one file."""

    sha256: str
    size: int


class PassFacts(Frozen):
    """A `PassRecord` without its time."""

    name: str
    options: dict[str, Any]
    state: PassState
    summary: str
    before: str
    after: str
    coverage: tuple[Coverage, ...]


class ArtifactRecord(Frozen):
    """One model file of the bundle, and how it was made."""

    artifact: Artifact
    sha256: str
    size: int
    compressed_size: int | None = None
    """Bytes as in a gzip or zip archive, where ``[prune] sparsity`` has set weights to zero: what that is good for."""
    recipe: Recipe = Recipe()
    """How it was quantized."""
    rungs: tuple[RungRecord, ...] = ()
    """Everything the accuracy ladder tried for it, in order."""
    layers: tuple[LayerFidelity, ...] = ()
    """Where its error enters: each layer's output against the float model's, on calibration samples."""
    ranges: RangeRecord | None = None
    """How the evaluation samples lie in its calibrated ranges; None: an earlier edgec built it."""
    passes: tuple[PassFacts, ...]


class FloatTwin(Frozen):
    """A float32 artifact that the bundle carries for comparison; it is not judged, and its harness does not run it."""

    artifact: Artifact
    """Its file is a path in the bundle: ``float/model.onnx``."""
    runtime: str


class OpCount(Frozen):
    """How many ops of an artifact compute in one dtype, and why not in the target's precision."""

    op: str
    dtype: str
    reason: str
    count: int


class Accuracy(Frozen):
    """The part of a `Measurement` that comes out the same each time, on all machines with the same instruction set."""

    artifact: str
    backend: str
    runtime: str
    runtime_version: str
    judged: bool
    machine: Platform
    emulated: bool
    samples: int
    metric: MetricResult | None
    agreement: float | None
    agreement_low: float | None
    fidelity: tuple[OutputFidelity, ...]
    ops: tuple[OpCount, ...]
    failure: str


class ProjectRecord(Frozen):
    """What the project asked for, whether in edgec.toml or by flags."""

    sha256: str
    """Digest of the bytes of edgec.toml; empty when there is none."""
    settings: dict[str, Any]
    """All keys of edgec.toml as they were resolved, without where bundles go and which targets are built.
    Paths that lead out of the project's folder are recorded by their last part."""
    code: dict[str, str]
    """Digest of each Python file that metric, loss and training function are in, of those beside or below it that it
    imports, and of what else of the project the metric reads."""
    threads: int
    """CPU threads of each toolchain process: sums in float are added up in another order."""


class Manifest(Frozen):
    """Everything about a bundle that its inputs determine."""

    kind: Literal["edgec bundle"] = "edgec bundle"
    schema_version: int = SCHEMA
    edgec: str
    """Version of the compiler."""
    name: str = ""
    """What the bundle is called: ``[publish] name``, else the model's; empty: an earlier edgec built it."""
    version: VersionText | None = None
    """Its version: ``[publish] version``."""
    target: Target
    target_digest: str
    source: ModelSource
    calibration: SpoolInfo | None
    evaluation: SpoolInfo | None
    training: SpoolInfo | None = None
    """What pruning or quantization-aware training used; None where neither was tried."""
    project: ProjectRecord
    isa: Isa
    """Of the machine that built and judged it."""
    plan: dict[str, Any]
    """A `PlanRecord` as JSON."""
    complete: bool = True
    """False when the bundle lacks artifacts of the target: `missing` lists them."""
    artifacts: tuple[ArtifactRecord, ...]
    """In the target's order: the first is the primary one."""
    coverage: tuple[Coverage, ...]
    gates: tuple[GateResult, ...]
    accuracy: tuple[Accuracy, ...]
    toolchain: dict[str, str]
    """Distribution -> installed version, and Python's as ``python``."""
    float_twin: FloatTwin | None = None
    """The first artifact in float32, where ``[bundle] float_twin`` asks for it: what `edgec validate` compares with."""
    files: dict[str, FileRecord] = Field(default_factory=dict)
    """Every digested file of the bundle by its path in it; filled in when the manifest is written."""

    @property
    def title(self) -> str:
        """Name and version, for people: ``digits 1.4``."""
        return f"{self.name or 'a bundle without a name'}{f' {self.version}' if self.version else ''}"

    @property
    def missing(self) -> tuple[Coverage, ...]:
        """Artifacts of the target that could not be made or missed their gates, with the reasons."""
        if self.complete:
            return ()
        return tuple(item for item in self.coverage if item.state in ("not built", "gates missed"))

    def to_json(self) -> str:
        """The file's text: keys sorted, one a line."""
        return json.dumps(self.plain(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


class PassTime(Frozen):
    """Wall time of one pass of one artifact."""

    artifact: str
    name: str
    seconds: float


class Measurements(Frozen):
    """``measurements.json``: everything measured, times included."""

    schema_version: int = SCHEMA
    measurements: tuple[Measurement, ...]
    passes: tuple[PassTime, ...] = ()
    gates: tuple[GateResult, ...] = ()
    """All gates, with the values of those that judge times."""


def pass_facts(record: PassRecord) -> PassFacts:
    """The reproducible part of what a pass did."""
    return PassFacts(**{name: getattr(record, name) for name in PassFacts.model_fields})


def count_ops(ops: Sequence[OpRecord]) -> tuple[OpCount, ...]:
    """Ops that are alike, counted, in order of name."""
    counts = Counter((item.op, item.dtype, item.reason) for item in ops)
    return tuple(
        OpCount(op=op, dtype=dtype, reason=reason, count=count) for (op, dtype, reason), count in sorted(counts.items())
    )


def accuracy_of(measurement: Measurement) -> Accuracy:
    """The reproducible part of a measurement."""
    same = {name: getattr(measurement, name) for name in Accuracy.model_fields if name not in ("ops", "machine")}
    return Accuracy(ops=count_ops(measurement.ops), machine=measurement.machine.platform(), **same)


def without_times(gate: GateResult) -> GateResult:
    """The reproducible part of a gate: of one that judges times, how it came out."""
    if gate.gate not in TIMED:
        return gate
    return gate.model_copy(update={"value": None, "margin": None, "reason": f"see {MEASUREMENTS}"})
