"""What every backend provides; in one file, for authors of backends read all of it.

A backend is the only place that imports its framework, and does so lazily: importing ``backends.X.backend`` costs
nothing, so plans and target listings need no toolchain.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import Field

from edgec.frozen import Frozen
from edgec.model.graph_ops import GraphOp
from edgec.model.spec import Array, FloatModel, Tensors
from edgec.passes.contract import Pass, PassContext
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.spec import PRECISIONS, Emit, Precision, Target

M = TypeVar("M")


class Format(Frozen):
    """A file format of artifacts; the backend that writes it declares all that edgec knows of it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """As manifests record it: ``onnx``."""
    suffix: str
    """Of file names: ``.onnx``."""
    media_type: str
    """Of the artifact in an OCI registry: ``application/vnd.edgec.model.onnx``."""
    runner: Path | None = None
    """A Python file that bundles carry as ``bench/run_<name>.py``, by which the harness runs an artifact without edgec.

    Its class ``Runner(entry, path, runtime, threads)`` loads an artifact; `entry` is its table of ``bench.json``.
    ``prepare(arrays)`` converts one sample, arrays in the order of ``entry["inputs"]``, to what ``run(feed)`` takes,
    which returns arrays in the order of ``entry["outputs"]``. The file is Python 3.9, and imports the standard library,
    NumPy and the runtime, the latter two inside functions. None: bundles carry no harness for this format.
    """
    runs_in_torch: bool = False
    """Whether the runtime is torch, which worker processes then have imported before they begin."""


class Package(Frozen):
    """A distribution a backend needs, as pip names it, and what for."""

    distribution: str
    purpose: Literal["compile", "run"]
    python_below: tuple[int, int] | None = None
    """The first Python version that it has no wheels for; None: it has them for all that edgec runs on."""
    precisions: tuple[Precision, ...] = PRECISIONS
    """Those that it is needed for."""
    extra: str = ""
    """The pip extra of edgec that brings it, and all that its backend's does; empty: the backend's does."""
    install: str = ""
    """Arguments of pip that install it, where no extra does; empty: one does."""
    extra_from: tuple[int, int] | None = None
    """The first Python version that its extra brings it for, `install` notwithstanding; None: for none."""
    requires: tuple[str, ...] = ("numpy",)
    """What a device needs besides, where it is a runtime, as requirements of pip. Not pinned to the build machine's
    versions: the device's Python may be older or newer than any that these have wheels for."""

    @property
    def no_wheel(self) -> str:
        """Why it cannot be installed here; empty: it can."""
        if self.python_below is None or sys.version_info[:2] < self.python_below:
            return ""
        here = ".".join(map(str, sys.version_info[:2]))
        return f"{self.distribution} has no wheel for this Python ({here})"

    @property
    def install_here(self) -> str:
        """`install`, where it is needed."""
        return "" if self.extra_from is not None and sys.version_info[:2] >= self.extra_from else self.install


class Capability(Frozen):
    """What the kernels of a backend can do with one kind of op."""

    op: str
    """Framework-neutral name: conv2d, depthwise-conv2d, linear, lstm, attention, ..."""
    static_int8: bool
    dynamic_int8: bool
    weights: tuple[Literal["per-channel", "per-tensor"], ...] = ()
    note: str = ""


class TensorBinding(Frozen):
    """How one artifact tensor relates to the float model's.

    ``artifact array = float array transposed by `permutation``` for inputs; for outputs the other way round:
    transposing the artifact's output by `permutation` gives the float model's layout.
    """

    name: str
    """Name in the float model."""
    artifact_name: str
    """Name in the artifact; for TorchScript the same as `name` (tensors are positional)."""
    shape: tuple[int, ...]
    """Shape in the artifact."""
    dtype: str
    permutation: tuple[int, ...] | None = None
    """None: the same layout."""
    step: float | None = None
    """Quantization step (scale) of an int8-computed output, for parity tolerances; None for float outputs."""


class Artifact(Frozen):
    """One emitted model file and how to feed it."""

    backend: str
    format: str
    """`Format.name`."""
    file: str
    """File name inside the bundle, e.g. ``model.tflite``."""
    precision: Precision
    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    engine: str | None = None
    """Process-global kernel library the artifact must run with (TorchScript)."""
    widens: bool = False
    """The device's kernels add int8 products in 32 bits: where the build machine's add them in 16, which overflows, its
    runtime is set to widen too."""
    coverage: tuple[Coverage, ...] = ()


class OpRecord(Frozen):
    """One op of an artifact as its runtime really executes it (dtype audit)."""

    name: str
    op: str
    dtype: str
    """The dtype it computes in: ``int8``, ``float32``, ``float16``, ``int64``..."""
    layer: str = ""
    reason: str = ""
    """Why it is not in the target's precision; empty when it is or when it holds no arithmetic."""


class OpTime(Frozen):
    """Time of one executed op."""

    name: str
    """As in `OpRecord.name`."""
    op: str
    layer: str
    microseconds: float
    """Median over the runs."""


class Layer(Frozen):
    """One op of a lowered float model that a recipe may quantize or keep in float."""

    name: str
    """Module path in the user's model where it is known (``features.3.conv``), else the graph's own name of the op."""
    op: str
    """As `Capability.op`: conv2d, depthwise-conv2d, linear, matmul, add, ..."""


class LayerFidelity(Frozen):
    """How near one layer's output in a quantized model is to the float model's."""

    layer: str
    op: str
    sqnr_db: Annotated[float, Field(strict=False)]
    """Over all elements and samples; inf when equal."""


class OpDifference(Frozen):
    """The op of an artifact at which two of its runtimes begin to compute different values."""

    name: str
    op: str
    before_db: float
    """SQNR of its inputs, one runtime's values against the other's; capped, so that it is always finite."""
    sqnr_db: float
    """SQNR of its output."""


class ActivationRange(Frozen):
    """The values that one integer activation of an artifact can hold, by its scale and zero-point."""

    tensor: str
    """Its name in the artifact, with the user's layer where that is known; unique."""
    low: float
    high: float
    input: str = ""
    """The float model's input that it is; empty: an inner activation."""


class RuntimeSpec(Frozen):
    """A runtime that can execute a backend's artifact on the host."""

    name: str
    """``tflite-runtime``, ``ai-edge-litert``, ``onnxruntime``, ``torch``."""
    distribution: str
    judged: bool = True
    """Whether gates apply to its results; a runtime of no allowed target is only reported."""
    missing: str = ""
    """Why it cannot be installed on this host; empty: it can. Its artifact is then not run in it, which is recorded."""


@runtime_checkable
class Runner(Protocol):
    """A loaded artifact. Called with one sample in the *float model's* names and layout, returns the same."""

    def __call__(self, inputs: Tensors) -> dict[str, Array]: ...

    def ops(self) -> Sequence[OpRecord]:
        """The ops that the runtime executes, in execution order."""
        ...


@runtime_checkable
class OpTimer(Protocol):
    """A `Runner` whose runtime measures the time of each op."""

    def op_times(self, inputs: Tensors, runs: int) -> Sequence[OpTime]:
        """Time of each executed op, in execution order, with the profiler's overhead."""
        ...


@runtime_checkable
class TensorReader(Protocol):
    """A `Backend` that can read the constants of its artifacts."""

    def tensors(self, file: Path) -> Mapping[str, str]:
        """Name of each constant -> digest of its dtype, shape, grid and values."""
        ...


class OpProblem(Frozen):
    """One op of a float model that a backend does not compute in a target's precision."""

    node: str
    """As in `GraphOp.name`."""
    op: str
    reason: str
    refused: bool = False
    """Whether the artifact cannot be made with it; else it is kept in float, or written as something else."""


@runtime_checkable
class OpAdviser(Protocol):
    """A `Backend` that knows from the graph alone which ops it does not support."""

    def problems(self, ops: Sequence[GraphOp], target: Target, emit: Emit) -> Sequence[OpProblem]:
        """The ops that it refuses, and those with weights or arithmetic that stay in float; from tables alone.

        Args:
            ops: of the float model.
            target: what is built.
            emit: the artifact.

        What is known only after lowering (values, shapes that kernels refuse) is not reported here.
        """
        ...


@runtime_checkable
class RuntimeComparer(Protocol):
    """A `Backend` that can find the op at which two runtimes begin to compute different values."""

    def first_difference(
        self, artifact: Artifact, file: Path, right: str, wrong: str, samples: Sequence[Tensors], threads: int
    ) -> OpDifference | None:
        """The first op that one runtime computes otherwise than another; runs inside a worker process.

        Args:
            artifact: what is run.
            file: its file.
            right: the runtime whose values are taken for right.
            wrong: the runtime in question.
            samples: a few, in the float model's names and layout.
            threads: CPU threads of each runtime.

        Returns:
            None where no op can be named.
        """
        ...


@runtime_checkable
class RangeWatch(Protocol):
    """A loaded int8 artifact whose activations are observed as it runs."""

    @property
    def ranges(self) -> Sequence[ActivationRange]:
        """Of the tensors that calibration gave one, in execution order; what only moves values is left out."""
        ...

    def __call__(self, inputs: Tensors) -> Array:
        """Run one sample, in the float model's names and layout.

        Returns:
            float64 of shape (ranges, 2): the share of each tensor's values that the range does not hold, and their
            level, which is their mean as a place in the range from 0 to 1. Of inner activations the share is that of
            codes at its ends, for more is not known once a kernel has clamped them (`edgec.backends.ranges`).
        """
        ...


@runtime_checkable
class RangeWatcher(Protocol):
    """A `Backend` that can observe the activations of its int8 artifacts."""

    def watch_ranges(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> RangeWatch:
        """Load an artifact of precision int8; runs inside a worker process.

        Args:
            artifact: how to feed the file.
            file: its file.
            runtime: name of a `RuntimeSpec`.
            threads: CPU threads of the runtime.

        Raises:
            UnsupportedError: this runtime refuses the artifact, or does not show its activations.
        """
        ...


class Backend(Protocol[M]):
    """A way from the float model to an artifact. `M` is the backend's own model between its passes."""

    name: str
    format: Format
    extra: str
    """The pip extra of edgec that brings its toolchain: ``edgec[onnx]``; "" for the core install."""
    precisions: tuple[Precision, ...]
    packages: tuple[Package, ...]
    needs_graph: bool
    """Whether it lowers torch graphs only: models without one, whose code cannot be traced, have no such artifact."""
    own_quantizer: str
    """What of quantization the toolchain decides and edgec cannot set; "" for nothing. `edgec backends` shows it."""

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        """Why this target cannot have this artifact (impossible precision, arch or option); empty: it can."""
        ...

    def capability(self, target: Target) -> Sequence[Capability]:
        """What the kernels on the target's device compute in int8, one row for each kind of op."""
        ...

    def reasons_against_recipe(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[str]:
        """Why this backend cannot follow a recipe; empty: it can. Imports no framework.

        Args:
            target: what is built.
            emit: the artifact.
            recipe: its calibration method, width of activations, layers in float.
        """
        ...

    def weight_grid(self, target: Target, emit: Emit) -> WeightGrid:
        """The grid that static int8 weights are rounded to, for corrections of the float model."""
        ...

    def passes(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[Pass[M]]:
        """The backend's own passes, in order. Imports no framework.

        Args:
            target: what is built.
            emit: the artifact.
            recipe: how it is quantized.

        Passes are values: two recipes that differ only in `Recipe.calibration` or `Recipe.float_layers` begin with
        equal passes (statistics are collected by a pass of its own), whose results are then used for both.
        """
        ...

    def artifact_file(self, emit: Emit) -> str:
        """File name of the artifact inside a bundle, known before building."""
        ...

    def lower(self, model: FloatModel, ctx: PassContext) -> M:
        """The backend's model of the float model.

        Raises:
            TraceError: the user's code cannot be captured.
            UnsupportedError: the model has what this backend cannot express.
        """
        ...

    def fingerprint(self, model: M) -> str:
        """SHA-256 (hex) over structure and constants of `model`: equal for equal content."""
        ...

    def layers(self, model: M) -> Sequence[Layer]:
        """What of a lowered float model static int8 can quantize one by one, in execution order, names unique.

        A recipe's `float_layers` are names of this list; another name raises PassError when the model is quantized.
        """
        ...

    def compare_layers(self, model: M, quantized: M, ctx: PassContext) -> Sequence[LayerFidelity]:
        """SQNR of each layer's output, `quantized` against the lowered float `model` it was made from.

        Both run on the same (few) samples of ``ctx.calibration``, each on its own activations, so errors add up from
        layer to layer as they do in the artifact. Layers whose output has no counterpart are left out.

        Args:
            model: the lowered float model.
            quantized: what the backend's passes made of it.
            ctx: holds the calibration samples.
        """
        ...

    def emit(self, model: M, ctx: PassContext, out: Path) -> Artifact:
        """Write the artifact file.

        Args:
            model: after all passes.
            ctx: the target and its settings.
            out: folder to write to.

        Raises:
            UnsupportedError: the runtime refuses the artifact, or computes nothing of it in the target's precision.
            StorageError: the file cannot be written.
        """
        ...

    def runtimes(self, target: Target, emit: Emit) -> Sequence[RuntimeSpec]:
        """Runtimes on this host that the artifact is verified in; the first is the one that is timed."""
        ...

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        """Load the artifact in a runtime. Runs inside a worker process.

        Args:
            artifact: how to feed the file.
            file: its file.
            runtime: name of a `RuntimeSpec`.
            threads: CPU threads of the runtime.

        Raises:
            UnsupportedError: this runtime refuses the artifact.
        """
        ...


AnyBackend = Backend[Any]
