"""ONNX to a float flatbuffer by TensorFlow: onnx2tf's translation to Keras, then the TFLite converter.

The second way, for what the direct converter lacks. It imports TensorFlow, and runs in the compile worker only. onnx2tf
overwrites its input, writes beside it and calls ``sys.exit``: it gets a copy in a folder of its own, and every way it
ends becomes an exception.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from edgec.errors import UnsupportedError

NAME = "onnx2tf by way of TensorFlow"
_NO_BUILTIN = frozenset({"Bernoulli", "Det", "Inverse", "Multinomial", "StringNormalizer"})
"""Ops that onnx2tf writes as TensorFlow's, of which TFLite has no builtin form: refused before TensorFlow is loaded."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class _Tee(io.TextIOBase):
    """Text written to the worker's log and remembered, to explain a failure with."""

    def __init__(self, log: TextIO) -> None:
        self.log = log
        self.text: list[str] = []

    def write(self, text: str) -> int:
        self.text.append(text)
        return self.log.write(text)

    def flush(self) -> None:
        self.log.flush()

    def reason(self) -> str:
        """The last lines that say something."""
        lines = (_ESCAPES.sub("", line).strip() for line in "".join(self.text).splitlines())
        errors = [line for line in lines if line and not line.startswith(("WARNING", "File ", "Traceback", "^", "~"))]
        return " / ".join(line.removeprefix("ERROR:").strip() for line in errors[-3:])


def convert(file: Path, keep_layout: Sequence[str], work: Path) -> bytes:
    """The float flatbuffer of `file`.

    Args:
        file: ONNX file as `onnx_graph.prepare` makes it.
        keep_layout: input names whose axis order stays.
        work: empty folder that the converters may litter.

    Raises:
        UnsupportedError: TensorFlow is not installed, or one of the converters gave up.
    """
    refuse_unknown_ops(file)
    if not _installed():
        raise UnsupportedError(
            f"{NAME} was not tried, since TensorFlow is not installed (pip install 'edgec[tflite]')", where="tflite"
        )
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    held = {item.name for item in graph.initializer}
    saved_model = work / "saved_model"
    save_program(
        to_keras(file, keep_layout, work),
        [item.name for item in graph.input if item.name not in held],
        [item.name for item in graph.output],
        saved_model,
    )
    return to_flatbuffer(saved_model)


def _installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("tensorflow", "tf_keras"))


def refuse_unknown_ops(file: Path) -> None:
    """Raise UnsupportedError that names every op without a translation, and its nodes."""
    import onnx

    unknown: dict[str, list[str]] = {}
    for node in onnx.load(str(file), load_external_data=False).graph.node:
        if node.op_type in _NO_BUILTIN or importlib.util.find_spec(f"onnx2tf.ops.{node.op_type}") is None:
            unknown.setdefault(node.op_type, []).append(node.name)
    if unknown:
        ops = ", ".join(f"{kind} (node {', '.join(names[:3])})" for kind, names in sorted(unknown.items()))
        raise UnsupportedError(f"{NAME} has no form of {ops}", where="tflite")


def check_node(file: Path, name: str, work: Path) -> None:
    """Convert one node of a file alone: what has no form at all is found so in seconds, in a large model too.

    A node whose operands have no known shapes is not tried, nor is any without TensorFlow.

    Args:
        file: an ONNX file.
        name: of the node.
        work: scratch folder.

    Raises:
        UnsupportedError: it cannot be converted.
    """
    if not _installed():
        return  # `convert` says so
    import onnx

    model = onnx.load(str(file))
    graph = model.graph
    node = next(item for item in graph.node if item.name == name)
    held = {item.name: item for item in graph.initializer}
    values = {item.name: item for item in (*graph.input, *graph.value_info, *graph.output)}
    fed = [item for item in dict.fromkeys(node.input) if item and item not in held]
    made = [item for item in node.output if item]
    if not fed or not all(item in values for item in (*fed, *made)):
        return
    constants = [held[item] for item in node.input if item in held]
    alone = onnx.helper.make_graph([node], "node", [values[k] for k in fed], [values[k] for k in made], constants)
    (work / "node.onnx").write_bytes(
        onnx.helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version).SerializeToString()
    )
    try:
        convert(work / "node.onnx", fed, work)
    except UnsupportedError as exc:
        raise UnsupportedError(
            f"{NAME} has no form of {node.op_type} (node {name}): {exc.what}", where="tflite"
        ) from exc


def to_keras(file: Path, keep_layout: Sequence[str], work: Path) -> Any:
    """The Keras model that onnx2tf makes of `file`, in memory.

    Args:
        file: simplified ONNX; copied, since onnx2tf overwrites it.
        keep_layout: input names whose axis order stays.
        work: empty folder that onnx2tf may litter.

    Raises:
        UnsupportedError: onnx2tf gave up; the message names the op where it is known.
    """
    copy = work / "model.onnx"
    copy.write_bytes(file.read_bytes())
    tee = _Tee(sys.stdout)
    with contextlib.chdir(work), contextlib.redirect_stdout(tee):
        import onnx2tf
        import tf_keras  # type: ignore[import-untyped]

        tf_keras.backend.clear_session()  # layer numbers, which end up in tensor names, start again
        try:
            return onnx2tf.convert(
                input_onnx_file_path=str(copy),
                output_folder_path=str(work / "out"),
                tflite_backend="tf_converter",
                output_signaturedefs=True,
                copy_onnx_input_output_names_to_tflite=True,
                keep_shape_absolutely_input_names=list(keep_layout) or None,
                not_use_onnxsim=True,
                not_use_opname_auto_generate=True,  # it infers shapes anew, and loses those behind Gelu
                enable_rnn_unroll=True,  # loops become TensorList ops, which plain TFLite lacks
                replace_to_pseudo_operators=["erf"],  # TFLite has none; the formula is exact to 1.5e-7
                disable_model_save=True,
                non_verbose=True,
            )
        except (Exception, SystemExit) as exc:
            raise UnsupportedError(_explain(exc, tee), where="tflite") from exc


def _explain(exc: BaseException, tee: _Tee) -> str:
    node = getattr(exc, "onnx_op_name", None)
    if not node and (names := re.findall(r"onnx_op_name: *(\S+)", _ESCAPES.sub("", "".join(tee.text)))):
        node = names[-1]
    reason = tee.reason() if isinstance(exc, SystemExit) else f"{type(exc).__name__}: {str(exc).splitlines()[0:1]}"
    return f"{NAME} cannot translate this model{f' (node {node})' if node else ''}: {reason}"


def save_program(keras: Any, inputs: Sequence[str], outputs: Sequence[str], folder: Path) -> None:
    """Save `keras` as a SavedModel with one signature.

    Args:
        keras: the Keras model.
        inputs: the signature's names in the order of its inputs.
        outputs: the signature's names in the order of its outputs.
        folder: where to.

    Raises:
        UnsupportedError: onnx2tf lost an input or output.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if len(keras.outputs) != len(outputs) or len(keras.inputs) != len(inputs):
        raise UnsupportedError(
            f"{NAME} made {len(keras.inputs)} inputs and {len(keras.outputs)} outputs "
            f"of the model's {len(inputs)} and {len(outputs)}",
            where="tflite",
        )

    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name) for tensor, name in zip(keras.inputs, inputs, strict=True)
    ]
    # Some of onnx2tf's layers hide their variables in lambdas, which a SavedModel refuses; frozen they are constants.
    traced = tf.function(lambda *arrays: _listed(keras(list(arrays))), input_signature=signature)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function(), lower_control_flow=False)

    def run(*arrays: Any) -> dict[str, Any]:
        return dict(zip(outputs, _listed(frozen(*arrays)), strict=True))

    program = tf.Module()
    program.run = tf.function(run, input_signature=signature)
    tf.saved_model.save(program, str(folder), signatures={"serving_default": program.run})


def to_flatbuffer(saved_model: Path) -> bytes:
    """The float flatbuffer of a SavedModel, of builtin ops only.

    Raises:
        UnsupportedError: an op is neither a TFLite builtin nor can be expressed by them.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    # LiteRT 2.1's XNNPACK computes int8 BATCH_MATMUL wrongly (17 dB where tflite-runtime has 36);
    # unfolded into FULLY_CONNECTED, both runtimes are right.
    converter.unfold_batchmatmul = True
    try:
        return bytes(converter.convert())
    except Exception as exc:
        raise UnsupportedError(f"TensorFlow Lite cannot express this model: {_message(exc)}", where="tflite") from exc


def _message(exc: Exception) -> str:
    """The converter's reason in one line: the ops it names, else the first line that states an error."""
    text = str(exc)
    if ops := sorted(
        set(re.findall(r"\btf\.(\w+)\(", text)) | set(re.findall(r"(?:TF Select|Custom) ops: (.+)", text))
    ):
        return f"no builtin form of {', '.join(ops)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or "not supported" in line]
    return (errors or lines or [type(exc).__name__])[0][:300]


def _listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, list | tuple) else [results]
