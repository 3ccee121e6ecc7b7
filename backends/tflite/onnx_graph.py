"""The float ONNX graph as both converters get it: constants folded, shapes known, a few ops rewritten, plain names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec.backends.tflite.module_paths import Origin, Product, find_origins, find_products
from edgec.backends.tflite.rewrites import FOLDS, FORMS, rewrite
from edgec.backends.tflite.rewrites.recurrent_steps import written_out
from edgec.model.spec import Array
from edgec.passes.coverage import Coverage
from edgec.storage.temporary import private_folder

_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def input_name(index: int) -> str:
    """Name of the `index`-th graph input in a file made by `prepare`."""
    return f"input_{index}"


def output_name(index: int) -> str:
    """Name of the `index`-th graph output in a file made by `prepare`."""
    return f"output_{index}"


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found.

    Attributes:
        inputs: original names of the inputs that the graph has, in its order; the file calls them `input_name`.
        products: its products with weights, by the user's names.
        origins: its nodes, likewise.
        coverage: what was written out at length.
    """

    inputs: tuple[str, ...]
    products: tuple[Product, ...]
    origins: tuple[Origin, ...]
    coverage: tuple[Coverage, ...] = ()

    def called(self, names: Mapping[str, str]) -> Prepared:
        """The same with other names (old -> new) of tensors."""
        origins = (replace(i, tensors=tuple(names.get(name, name) for name in i.tensors)) for i in self.origins)
        return replace(self, origins=tuple(origins))


def prepare(source: Path, out: Path) -> Prepared:
    """Write `source` as the converters need it: folded, rewritten, inputs and outputs named plainly.

    The function computed is compared with the original's later on, so a wrong simplification cannot pass.

    Args:
        source: ONNX file with fixed input shapes.
        out: where to.
    """
    import onnx

    model = rewrite(simplify(onnx.load(str(source))), FOLDS)
    products = find_products(model)
    model = rewrite(model, FORMS)
    graph = model.graph
    constants = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in constants]
    renamed = {item.name: output_name(k) for k, item in enumerate(graph.output)}
    renamed |= {name: input_name(k) for k, name in enumerate(inputs)}
    _rename(graph, renamed)
    origins = find_origins(model, products)
    coverage = written_out(model)
    for index, node in enumerate(graph.node):
        node.name = f"{re.sub(r'[^0-9A-Za-z_.]+', '_', node.name).strip('_') or node.op_type}_{index}"
    origins = tuple(replace(item, node=node.name) for item, node in zip(origins, graph.node, strict=True))
    onnx.save(model, str(out))
    return Prepared(tuple(inputs), products, origins, coverage)


def simplify(model: Any) -> Any:
    """`model` with constants folded and shapes inferred from those of its inputs, which are fixed."""
    import onnx
    import onnxsim  # type: ignore[import-untyped]

    held = {item.name for item in model.graph.initializer}
    shapes = {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in model.graph.input
        if item.name not in held
    }
    reasons = []
    for prepared in (_as_it_is, _folded_by_runtime):
        try:
            return onnxsim.simplify(prepared(model), check_n=0, overwrite_input_shapes=shapes)[0]
        except Exception as exc:  # it trips over branches that it has itself decided, and over missing shapes
            reasons.append(str(exc))
    print(f"onnxsim: {'; '.join(reasons)}")  # noqa: T201  # goes into the worker's log
    return onnx.shape_inference.infer_shapes(model)


def _as_it_is(model: Any) -> Any:
    return model


def _folded_by_runtime(model: Any) -> Any:
    """`model` as ONNX Runtime simplifies it, in ops of the standard: constants folded, branches decided."""
    import onnx
    import onnxruntime

    with private_folder() as folder:
        file = Path(folder, "folded.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(file)
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["MatMulAddFusion"],  # it puts reshapes around products on three axes
        )
        folded = onnx.load(file)
    used = {node.domain for node in folded.graph.node}
    kept = [item for item in folded.opset_import if item.domain in used or not item.domain]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    return folded


def _rename(graph: Any, renamed: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner, renamed)


def reference_outputs(file: Path, samples: Sequence[dict[str, Array]]) -> list[list[Array]]:
    """What the ONNX model gives for each sample, by ONNX Runtime; outer list: outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted = {item.name for item in session.get_inputs()}
    runs = [session.run(None, {k: v for k, v in sample.items() if k in wanted}) for sample in samples]
    return [list(column) for column in zip(*runs, strict=True)]


def are_probabilities(file: Path) -> tuple[bool, ...]:
    """For each output of an ONNX file, whether a sigmoid or softmax makes it."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    made_by = {name: node for node in graph.node for name in node.output}

    def bounded(name: str) -> bool:
        node = made_by.get(name)
        while node is not None and node.op_type in _MOVES:
            node = made_by.get(node.input[0])
        return node is not None and node.op_type in ("HardSigmoid", "Sigmoid", "Softmax")

    return tuple(bounded(item.name) for item in graph.output)
