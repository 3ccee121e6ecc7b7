"""The TFLite backend as the registry sees it; importing it costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.backends.interface import (
    Artifact,
    Capability,
    Format,
    Layer,
    LayerFidelity,
    OpDifference,
    OpProblem,
    Package,
    RangeWatch,
    Runner,
    RuntimeSpec,
)
from edgec.backends.tflite import advise, constants
from edgec.backends.tflite.capability import CAPABILITIES
from edgec.backends.tflite.model import LiteModel
from edgec.backends.tflite.passes import QuantizeDynamic, QuantizeWeights, StoreFloat16
from edgec.backends.tflite.quantize_static import CollectRanges, QuantizeInt16, QuantizeStatic
from edgec.backends.tflite.runtimes import LITERT, PACKAGES, RUNTIMES, TFLITE_RUNTIME, judged_runtimes, tried_runtimes
from edgec.errors import UnsupportedError
from edgec.model.graph_ops import GraphOp
from edgec.model.spec import FloatModel, Tensors
from edgec.passes.contract import Pass, PassContext
from edgec.quant.ranges import needs_histogram
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.spec import PRECISIONS, Emit, Precision, Target

FORMAT = Format(
    name="tflite",
    suffix=".tflite",
    media_type="application/vnd.edgec.model.tflite",
    runner=Path(__file__).with_name("run_tflite.py"),
)


class TFLiteBackend:
    """onnx2tf's direct converter, or TensorFlow's where that is wrong, to a ``.tflite`` of builtin ops only."""

    name = "tflite"
    format = FORMAT
    extra = "tflite-direct"
    precisions: tuple[Precision, ...] = PRECISIONS
    packages: tuple[Package, ...] = (
        Package(distribution="onnx", purpose="compile"),
        Package(distribution="onnxruntime", purpose="compile"),
        Package(
            distribution="onnx2tf",
            purpose="compile",
            # it runs on Python 3.11 too, but says that it does not, and pins what tflite-runtime cannot be used with
            install="--no-deps --ignore-requires-python onnx2tf==2.6.9",
            extra_from=(3, 12),
        ),
        Package(distribution="tensorflow", purpose="compile", precisions=("int8",), extra="tflite"),
        *PACKAGES,
    )
    needs_graph = False
    own_quantizer = (
        "TensorFlow's quantizer rounds weights and biases, fuses ops, gives pools and concatenations their neighbour's "
        "range, softmax and sigmoid a fixed one, and decides which ops have an int8 form; with int16 activations "
        "or a program with loops or branches it chooses the ranges too (min-max)"
    )

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        """Why this target cannot have a TFLite artifact; empty: it can."""
        reasons = []
        if emit.engine is not None:
            reasons.append(f'engine "{emit.engine}": TFLite has no engines to choose from')
        unknown = sorted(set(emit.runtimes or ()) - set(RUNTIMES))
        if unknown or emit.runtimes == ():
            reasons.append(f"runtimes: {', '.join(unknown) or 'empty'}; known: {', '.join(RUNTIMES)}")
        if target.device.arch == "armv7" and emit.runtimes is not None and TFLITE_RUNTIME not in emit.runtimes:
            reasons.append(f"runtimes: {LITERT} does not exist for armv7; only {TFLITE_RUNTIME} does")
        if target.quantize.reduced_range == "yes" and target.precision in ("int8", "int8-dynamic"):
            reasons.append("quantize.reduced_range: TensorFlow's converter has no 7-bit weights (nor need of them)")
        if target.precision == "int4-weight-only" and TFLITE_RUNTIME in judged_runtimes(target, emit):
            hint = f'judge it in {LITERT} alone (emit.runtimes = ["{LITERT}"])' if target.device.arch != "armv7" else ""
            reasons.append(f"{TFLITE_RUNTIME} 2.14 has no 4-bit weights{hint and '; ' + hint}")
        return reasons

    def capability(self, target: Target) -> Sequence[Capability]:
        """The kernels' table; the same on every CPU."""
        return CAPABILITIES

    def problems(self, ops: Sequence[GraphOp], target: Target, emit: Emit) -> Sequence[OpProblem]:
        """What has no form, and what stays in float, by the op's kind."""
        return tuple(advise.problems(ops, target.precision))

    def reasons_against_recipe(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[str]:
        """No file mixes static and dynamic layers; TensorFlow's quantizer of 16-bit activations takes no single one."""
        if recipe.linear != "static":
            return ("dynamic linear layers: the quantizers of TFLite files make all of a file dynamic, or nothing",)
        if recipe.activations == "int16" and recipe.float_layers:
            return (
                "int16 activations are all or nothing: TensorFlow's converter keeps no chosen layers in float then",
            )
        return ()

    def weight_grid(self, target: Target, emit: Emit) -> WeightGrid:
        """Codes are symmetric: -127 to 127, of 4 bits -7 to 7."""
        return WeightGrid(
            limit=7 if target.precision == "int4-weight-only" else 127,
            per_channel=target.quantize.weights == "per-channel",
        )

    def layers(self, model: LiteModel) -> Sequence[Layer]:
        """Products with their biases, and the arithmetic between them; pools and activations follow their input."""
        placed = model.quantizable.layers if model.quantizable else ()
        return tuple(Layer(name=layer.name, op=layer.op) for layer in placed)

    def compare_layers(self, model: LiteModel, quantized: LiteModel, ctx: PassContext) -> Sequence[LayerFidelity]:
        """Both in LiteRT's builtin kernels, which let every tensor be read; runs in the compile worker."""
        from edgec.backends.tflite.fidelity import compare_layers

        return compare_layers(model, quantized, ctx)

    def first_difference(
        self, artifact: Artifact, file: Path, right: str, wrong: str, samples: Sequence[Tensors], threads: int
    ) -> OpDifference | None:
        """All tensors of the file in both interpreters, without delegates; runs in a worker process."""
        from edgec.backends.tflite.compare_runtimes import first_difference

        return first_difference(artifact, file, right, wrong, samples, threads)

    def passes(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[Pass[LiteModel]]:
        """Static int8 collects ranges and quantizes; weight-only edits the float program; others convert anew."""
        per_channel = target.quantize.weights == "per-channel"
        dense = per_channel and TFLITE_RUNTIME not in judged_runtimes(target, emit)
        passes: dict[Precision, tuple[Pass[LiteModel], ...]] = {
            "fp32": (),
            "fp16": (StoreFloat16(),),
            "int8": (
                CollectRanges(histogram=needs_histogram(recipe.calibration)),
                QuantizeStatic(recipe.calibration, recipe.float_layers, per_channel),
            ),
            "int8-dynamic": (QuantizeDynamic(per_channel=per_channel, per_channel_dense=dense),),
            "int8-weight-only": (QuantizeWeights(8, per_channel, None, recipe.float_layers),),
            "int4-weight-only": (QuantizeWeights(4, per_channel, target.quantize.block_size, recipe.float_layers),),
        }
        if target.precision == "int8" and recipe.activations == "int16":
            return (QuantizeInt16(per_channel, tried_runtimes(target, emit)),)
        return passes[target.precision]

    def artifact_file(self, emit: Emit) -> str:
        """File name inside a bundle."""
        return "model.tflite"

    def lower(self, model: FloatModel, ctx: PassContext) -> LiteModel:
        """The float program, compared with the float model; runs in the compile worker."""
        from edgec.backends.tflite.lower import lower

        return lower(model, ctx)

    def fingerprint(self, model: LiteModel) -> str:
        """SHA-256 over the flatbuffer and its bindings."""
        return model.fingerprint()

    def emit(self, model: LiteModel, ctx: PassContext, out: Path) -> Artifact:
        """Write the flatbuffer, with the quantization steps of its outputs read back from it."""
        from edgec.backends.tflite.flatbuffer import output_steps

        emit = ctx.emit or Emit(backend=self.name)
        file = self.artifact_file(emit)
        (out / file).write_bytes(model.content)
        steps = output_steps(model.content)
        return Artifact(
            backend=self.name,
            format=self.format.name,
            file=file,
            precision=ctx.target.precision,
            inputs=model.inputs,
            outputs=tuple(item.model_copy(update={"step": steps.get(item.artifact_name)}) for item in model.outputs),
            coverage=(*model.lowering, *model.coverage),
        )

    def runtimes(self, target: Target, emit: Emit) -> Sequence[RuntimeSpec]:
        """LiteRT first (timed), then tflite-runtime; one that the target does not allow is only reported."""
        judged = judged_runtimes(target, emit)
        missing = {package.distribution: package.no_wheel for package in PACKAGES}
        return tuple(
            RuntimeSpec(name=name, distribution=name, judged=name in judged, missing=missing[name]) for name in RUNTIMES
        )

    def tensors(self, file: Path) -> Mapping[str, str]:
        return constants.tensors(file)

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        """Load `file` in one interpreter; runs in a worker process."""
        if runtime not in RUNTIMES:
            raise UnsupportedError(f'no TFLite runtime is called "{runtime}"', hint=f"known: {', '.join(RUNTIMES)}")
        from edgec.backends.tflite.runner import LiteRunner

        return LiteRunner(artifact, file, runtime, threads)

    def watch_ranges(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> RangeWatch:
        """Load `file` with its activations shown; runs in a worker process."""
        from edgec.backends.tflite.ranges import LiteRangeWatch

        return LiteRangeWatch(artifact, file, runtime, threads)


BACKEND = TFLiteBackend()
