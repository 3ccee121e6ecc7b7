"""Float ONNX to a TensorFlow SavedModel, by onnx2tf. Runs in the compile worker only.

onnx2tf downloads sample images, overwrites its input, writes beside it and calls ``sys.exit``: it gets a copy in a
folder of its own, no network function, and every way it ends becomes an exception.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgec.backends.tflite.fuse_gelu import fuse_gelu
from edgec.backends.tflite.module_paths import Product, find_products
from edgec.errors import UnsupportedError
from edgec.model.spec import Array

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_SAMPLE_IMAGES = (20, 128, 128, 3)
"""Shape of the image sample that onnx2tf would download."""


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
        telling = [line for line in lines if line and not line.startswith(("WARNING", "File ", "Traceback", "^", "~"))]
        return " / ".join(line.removeprefix("ERROR:").strip() for line in telling[-3:])


@contextlib.contextmanager
def _offline(folder: Path) -> Iterator[_Tee]:
    """onnx2tf in `folder`, without its download, its output remembered."""
    import onnx2tf  # noqa: F401  # loads the submodule that `sys.modules` is asked for

    module: Any = sys.modules["onnx2tf.onnx2tf"]
    original = module.download_test_image_data
    module.download_test_image_data = lambda: np.random.default_rng(0).random(_SAMPLE_IMAGES, np.float32)
    tee = _Tee(sys.stdout)
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(tee):
            yield tee
    finally:
        module.download_test_image_data = original


def input_name(index: int) -> str:
    """Name of the `index`-th graph input in a file made by `prepare`."""
    return f"input_{index}"


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found.

    Attributes:
        inputs: original names of the inputs that the graph has, in its order; the file calls them `input_name`.
        products: its products with weights, by the user's names.
    """

    inputs: tuple[str, ...]
    products: tuple[Product, ...]


def prepare(source: Path, out: Path) -> Prepared:
    """Write `source` as onnx2tf needs it: constants folded, shapes inferred, inputs and outputs named plainly.

    onnx2tf loses tensors whose names TensorFlow does not accept. The function computed is compared with the
    original's later on, so a wrong simplification cannot pass.
    """
    import onnx
    import onnxsim  # type: ignore[import-untyped]

    model = onnx.load(str(source))
    try:
        simple, _ = onnxsim.simplify(model, check_n=0)
    except Exception as exc:  # the simplifier is optional: without it constants stay unfolded
        print(f"onnxsim: {exc}")  # noqa: T201  # goes into the worker's log
        simple = onnx.shape_inference.infer_shapes(model)
    fuse_gelu(simple)
    products = find_products(simple)
    graph = simple.graph
    constants = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in constants]
    renamed = {item.name: f"output_{k}" for k, item in enumerate(graph.output)}
    renamed |= {name: input_name(k) for k, name in enumerate(inputs)}
    _rename(graph, renamed)
    for index, node in enumerate(graph.node):
        node.name = f"{re.sub(r'[^0-9A-Za-z_.]+', '_', node.name).strip('_') or node.op_type}_{index}"
    onnx.save(simple, str(out))
    return Prepared(tuple(inputs), products)


def _rename(graph: Any, renamed: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner, renamed)


def refuse_unknown_ops(file: Path) -> None:
    """Raise UnsupportedError that names every op onnx2tf has no translation for."""
    import onnx

    kinds = {node.op_type for node in onnx.load(str(file), load_external_data=False).graph.node}
    unknown = sorted(kind for kind in kinds if importlib.util.find_spec(f"onnx2tf.ops.{kind}") is None)
    if unknown:
        raise UnsupportedError(
            f"onnx2tf cannot translate {', '.join(unknown)}",
            where="tflite",
            hint="replace the op in the model, or build this target with the onnxruntime backend",
        )


def to_keras(file: Path, keep_layout: Sequence[str], work: Path) -> Any:
    """The Keras model that onnx2tf makes of `file`, in memory.

    Args:
        file: simplified ONNX; copied, since onnx2tf overwrites it.
        keep_layout: input names whose axis order stays.
        work: empty folder that onnx2tf may litter.

    Raises:
        UnsupportedError: onnx2tf gave up; the message names the op where it can be told.
    """
    copy = work / "model.onnx"
    copy.write_bytes(file.read_bytes())
    with _offline(work) as tee:
        import onnx2tf
        import tf_keras  # type: ignore[import-untyped]

        tf_keras.backend.clear_session()  # layer numbers, which end up in tensor names, start again
        try:
            return onnx2tf.convert(
                input_onnx_file_path=str(copy),
                output_folder_path=str(work / "out"),
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
            raise UnsupportedError(
                _explain(exc, tee),
                where="tflite",
                hint="replace the op in the model, or build this target with the onnxruntime backend",
            ) from exc


def _explain(exc: BaseException, tee: _Tee) -> str:
    node = getattr(exc, "onnx_op_name", None)
    if not node and (found := re.findall(r"onnx_op_name: *(\S+)", _ESCAPES.sub("", "".join(tee.text)))):
        node = found[-1]
    told = tee.reason() if isinstance(exc, SystemExit) else f"{type(exc).__name__}: {str(exc).splitlines()[0:1]}"
    return f"onnx2tf cannot translate this model{f' at op {node}' if node else ''}: {told}"


def save_program(keras: Any, inputs: Sequence[str], outputs: Sequence[str], folder: Path) -> None:
    """Save `keras` as a SavedModel whose one signature has edgec's names.

    Args:
        keras: the Keras model.
        inputs: artifact names in the order of its inputs.
        outputs: artifact names in the order of its outputs.
        folder: where to.

    Raises:
        UnsupportedError: onnx2tf lost an input or output.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if len(keras.outputs) != len(outputs) or len(keras.inputs) != len(inputs):
        raise UnsupportedError(
            f"onnx2tf made {len(keras.inputs)} inputs and {len(keras.outputs)} outputs "
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


def _listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, list | tuple) else [results]


def reference_outputs(file: Path, samples: Sequence[dict[str, Array]]) -> list[list[Array]]:
    """What the ONNX model gives for each sample, by ONNX Runtime; outer list: outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted = {item.name for item in session.get_inputs()}
    runs = [session.run(None, {k: v for k, v in sample.items() if k in wanted}) for sample in samples]
    return [list(column) for column in zip(*runs, strict=True)]
