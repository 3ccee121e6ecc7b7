"""The records of a target file. All are frozen, strict about keys, and have a canonical digest."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_serializer, field_validator, model_validator
from pydantic_core import PydanticKnownError

from edgec.frozen import Frozen
from edgec.quant.recipe import RangeMethod
from edgec.target.architecture import ARCHITECTURES


def _check_arch(name: str) -> str:
    if name not in ARCHITECTURES:
        *names, last = map(repr, ARCHITECTURES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(names)} or {last}"})
    return name


Arch = Annotated[str, AfterValidator(_check_arch)]
"""A key of `ARCHITECTURES`."""
Precision = Literal["fp32", "fp16", "int8", "int8-dynamic", "int8-weight-only", "int4-weight-only"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CalibrationMethod = Literal["auto"] | RangeMethod
WEIGHT_ONLY: tuple[Precision, ...] = ("int8-weight-only", "int4-weight-only")
"""Precisions of weights that are computed with in float."""
FallbackPrecision = Literal["fp32", "fp16"]
PruneGoal = Literal["channels", "macs", "size", "latency"]
Importance = Literal["l1", "l2", "bn-scale", "taylor", "hessian"]
GRADIENT_IMPORTANCES: tuple[Importance, ...] = ("taylor", "hessian")
"""Those that are computed from the loss on training samples."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")


def check_name(name: str) -> str:
    """A device or target name: lower-case words and digits joined by single hyphens."""
    if not _NAME.match(name):
        raise ValueError(f'"{name}" is not a valid name (lower-case letters, digits and single hyphens)')
    return name


class Device(Frozen):
    """Facts about the device's hardware, each with its source. It never describes the machine edgec runs on."""

    name: str
    description: str
    arch: Arch
    triple: str
    """GNU target triple of the device's user space, e.g. ``aarch64-linux-gnu``."""
    cpu: str
    """Core name as GCC's ``-mcpu``/``-march`` spells it, e.g. ``cortex-a72``."""
    isa: frozenset[str]
    cores: Annotated[int, Field(ge=1)]
    ram_mb: Annotated[int, Field(ge=1)]
    emulator: str | None = None
    """QEMU user-mode ``-cpu`` model with the same features, if there is one."""
    sources: dict[str, str]
    """For each stated fact, where it was read (data sheet, kernel, probe)."""

    _check_name = field_validator("name")(check_name)

    @field_serializer("isa", when_used="json")
    def _sort_isa(self, isa: frozenset[str]) -> list[str]:
        return sorted(isa)  # a set's order changes from process to process, a digest must not

    @model_validator(mode="after")
    def _check_facts(self) -> Device:
        features = ARCHITECTURES[self.arch].features
        if unknown := self.isa - features.keys():
            known = ", ".join(sorted(features))
            raise ValueError(f"isa: {', '.join(sorted(unknown))}: no such feature of {self.arch}; known: {known}")
        facts = {"arch", "triple", "cpu", "isa", "cores", "ram_mb"} | ({"emulator"} if self.emulator else set())
        if missing := sorted(facts - set(self.sources)):
            raise ValueError(f"sources: no source is given for {', '.join(missing)}")
        if extra := sorted(set(self.sources) - facts):
            raise ValueError(f"sources: {', '.join(extra)}: no such fact is stated")
        return self

    @property
    def has_int8_dot_product(self) -> bool:
        """Whether int8 products accumulate straight into int32."""
        return bool(self.isa & ARCHITECTURES[self.arch].int8_dot)

    @property
    def adds_int8_in_16_bits(self) -> bool:
        """Whether kernels add pairs of int8 products in 16 bits, which can overflow."""
        return ARCHITECTURES[self.arch].int8_adds_in_16_bits and not self.has_int8_dot_product

    @property
    def has_fp16_arithmetic(self) -> bool:
        """Whether the CPU computes in fp16; without it fp16 is storage only."""
        return "fp16" in self.isa

    @property
    def channel_multiple(self) -> int:
        """Output channels that int8 kernels compute at once: what is left over costs as much as a whole group."""
        multiples = ARCHITECTURES[self.arch].channel_multiples
        return next((count for feature, count in multiples.items() if feature in self.isa), 4)


class Emit(Frozen):
    """One artifact to produce: by which backend, with which of its options."""

    backend: str
    engine: str | None = None
    """Kernel library within the backend (fbgemm: ``auto``, ``fbgemm``, ``x86``, ``onednn``); None: its default."""
    runtimes: tuple[str, ...] | None = None
    """Runtimes that the artifact must be right in, at least one; None: every one the backend has for this device."""


class QuantSpec(Frozen):
    """How int8 targets are quantized. ``auto`` values are derived from the device by each backend."""

    calibration: CalibrationMethod = "auto"
    """How activation ranges follow from the calibration samples; auto: the accuracy ladder tries all methods."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Calibration samples to draw from the representative dataset, balanced by class."""
    weights: Literal["per-channel", "per-tensor"] = "per-channel"
    reduced_range: Literal["auto", "yes", "no"] = "auto"
    """7-bit weights against int16 accumulator saturation; auto: where the device's kernels saturate."""
    float_layers: tuple[str, ...] = ()
    """Layers that always stay in float: names as ``edgec analyze`` lists them, or globs (``head.*``)."""
    block_size: Literal[16, 32, 64, 128] = 32
    """Weights that share a scale in block-wise weight-only quantization."""
    fallback: FallbackPrecision | None = None
    """Precision of an artifact that no rung of the accuracy ladder brings through its gates; None: the build fails."""


class PruneSpec(Frozen):
    """Pruning of the float model before anything else is done to its weights: channels, then single weights."""

    amount: Annotated[float, Field(ge=0.0, le=0.95)] = 0.0
    """Share of what `goal` names that is removed with whole channels; 0 removes none."""
    goal: PruneGoal = "channels"
    importance: Importance = "l1"
    """The measure by which channels are kept or removed."""
    scope: Literal["layer", "global"] = "layer"
    """The same share of each layer, or the least important channels wherever they are."""
    round_to: Annotated[int, Field(ge=1, le=64)] | None = None
    """Channel counts stay multiples of this, or of a half of it and so on down to 8 in layers narrower than two of it.
    None: `Device.channel_multiple`."""
    ignore: tuple[str, ...] = ()
    """Layers that keep their channels: names as ``edgec analyze`` lists them, or globs (``head.*``)."""
    steps: Annotated[int, Field(ge=1, le=20)] = 1
    """Prune a part and fine-tune, this often."""
    sparsity: Annotated[float, Field(ge=0.0, le=0.95)] = 0.0
    """Share of single weights that are set to zero, after channels were removed."""
    pattern: Literal["unstructured", "2:4"] = "unstructured"
    """Which weights may be zero: any, or two of any four that follow each other along a layer's inputs."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the training data in each step; None: 8, or more for small data."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of fine-tuning, as a part of each tensor's size."""
    without_training: bool = False
    """Prune even where the project names no training data: most models are of no use afterwards."""

    @property
    def prunes(self) -> bool:
        """Whether anything is asked for."""
        return self.amount > 0 or self.sparsity > 0

    @model_validator(mode="after")
    def _check_pattern(self) -> PruneSpec:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError("sparsity: pattern 2:4 sets two of four weights to zero: sparsity = 0.5")
        return self


class Budget(Frozen):
    """Limits of size and latency; judged per artifact, in the build."""

    size_kib: Annotated[float, Field(gt=0)] | None = None
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Median batch-1 latency; judged only where it was measured on a matching device, else *not measured*."""
    min_speedup: Annotated[float, Field(gt=0)] | None = None
    """Smallest allowed ratio of the float twin's latency to the artifact's, interleaved on the build host."""


class BenchSpec(Frozen):
    """Defaults of the bundle's benchmark harness."""

    threads: Annotated[int, Field(ge=1)] = 1
    warmup: Annotated[int, Field(ge=0)] = 10
    runs: Annotated[int, Field(ge=1)] = 100


class Target(Frozen):
    """One resolved target: complete, immutable; its digest is its identity."""

    name: str
    description: str = ""
    device: Device
    precision: Precision
    emit: Annotated[tuple[Emit, ...], Field(min_length=1)]
    """Artifacts to produce; the first is the primary one, which the harness runs by default."""
    quantize: QuantSpec = QuantSpec()
    prune: PruneSpec = PruneSpec()
    budget: Budget = Budget()
    bench: BenchSpec = BenchSpec()

    _check_name = field_validator("name")(check_name)

    @model_validator(mode="after")
    def _check_emits(self) -> Target:
        backends = [emit.backend for emit in self.emit]
        if twice := sorted({name for name in backends if backends.count(name) > 1}):
            raise ValueError(f"emit: backend {', '.join(twice)} stands twice")
        if self.bench.threads > self.device.cores:
            raise ValueError(
                f"bench.threads: {self.bench.threads} is more than {self.device.name}'s {self.device.cores} cores"
            )
        if self.quantize.float_layers and self.precision != "int8":
            raise ValueError(f"quantize.float_layers: {self.precision} keeps no layers in float; only int8 does")
        return self
