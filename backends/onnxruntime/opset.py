"""The opset of a graph: raised until QuantizeLinear knows channels, lowered until the runtime has all kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backends.onnxruntime.graph import STANDARD_DOMAINS, all_nodes, opset
from edgec.backends.onnxruntime.session import first_line, open_session, run
from edgec.errors import EdgecError, UnsupportedError
from edgec.frozen import Frozen
from edgec.storage.temporary import private_folder
from edgec.workers import worker
from edgec.workers.records import Done

if TYPE_CHECKING:
    import onnx
    import onnx.defs

    from edgec.model.spec import Array

OLDEST = 13
"""The first opset whose QuantizeLinear knows channels."""
RAISED = 17
"""What older ones become."""
NEWEST = 21
"""The last one that ONNX Runtime's CPU has kernels of all ops of, those for quantization among them."""
_IR_VERSION = 10
"""What belongs to `NEWEST`: ONNX Runtime refuses files of a newer one."""
_SAFE = 11
"""The first whose Resize states its coordinates, and the oldest that ONNX Runtime's quantizer leaves as it is."""


def settle_opset(proto: onnx.ModelProto, work: Path, where: str, *, quantized: bool) -> onnx.ModelProto:
    """The same function between opsets `OLDEST` and `NEWEST`, where that can be; else as it is.

    Args:
        proto: the graph; stays as it is.
        work: scratch folder.
        where: the model, for messages.
        quantized: whether it is to be quantized, which very old opsets cannot be.

    Raises:
        UnsupportedError: the opset is too old and cannot be raised.
    """
    if opset(proto) < OLDEST:
        return _raised(proto, work, where, quantized=quantized)
    return _lowered(proto) if opset(proto) > NEWEST else proto


def _raised(proto: onnx.ModelProto, work: Path, where: str, *, quantized: bool) -> onnx.ModelProto:
    """By ONNX's own converter, in a process of its own: on some graphs it crashes."""
    import onnx

    source, result = work / "old-opset.onnx", work / "raised-opset.onnx"
    onnx.save(proto, str(source))
    request = Conversion(source=source, result=result)
    try:
        worker.call(f"{__name__}:convert", request, Done, log=work / "opset.log", what=f"{where}, raise its opset")
    except EdgecError as error:
        if quantized and opset(proto) < _SAFE:
            raise UnsupportedError(
                f"opset {opset(proto)} cannot be quantized, nor raised to {RAISED}: {error.what}",
                where=where,
                hint=f"export the model again with opset {RAISED}",
            ) from error
        return proto
    return onnx.load(str(result))


class Conversion(Frozen):
    """A request of `convert`."""

    source: Path
    """File of the graph."""
    result: Path
    """File to write."""


def convert(request: Conversion, progress: worker.Progress) -> Done:
    """Raise the opset of a file to `RAISED` (a task of `edgec.workers.worker`).

    Raises:
        UnsupportedError: the converter fails, or its result computes another function.
    """
    import onnx
    from onnx import version_converter

    before = onnx.load(str(request.source))
    try:
        after = version_converter.convert_version(before, RAISED)
    except Exception as exc:  # RuntimeError and C++ exceptions alike
        raise UnsupportedError(first_line(exc, request.source)) from exc
    if opset(before) < _SAFE:
        _keep_sampling(after)
    if not _agree(before, after):
        raise UnsupportedError("ONNX's converter makes another function of it")
    onnx.save(after, str(request.result))
    return Done()


def _keep_sampling(proto: onnx.ModelProto) -> None:
    """Give each Resize the coordinates that Upsample and the first Resize had, in place: the converter does not."""
    from onnx import helper

    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for node in all_nodes(proto):
        if node.op_type == "Resize":
            kept = [item for item in node.attribute if item.name not in modes]
            del node.attribute[:]
            node.attribute.extend([*kept, *(helper.make_attribute(name, mode) for name, mode in modes.items())])


def _agree(before: onnx.ModelProto, after: onnx.ModelProto) -> bool:
    """Whether two graphs give the same on random inputs."""
    from onnx import helper

    random = np.random.default_rng(0)
    constant = {item.name for item in before.graph.initializer}
    feeds = {}
    for item in before.graph.input:
        if item.name not in constant:
            kind = item.type.tensor_type
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            values = random.normal(size=[dim.dim_value for dim in kind.shape.dim])
            feeds[item.name] = np.asarray(values if dtype.kind == "f" else np.abs(values), dtype)
    first, second = (_answers(proto, feeds) for proto in (before, after))
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) for a, b in zip(first, second, strict=True))


def _answers(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    with private_folder() as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(proto.SerializeToString())
        session = open_session(file, threads=1, level="basic")
    return run(session, [item.name for item in session.get_outputs()], feeds, "opset conversion")


def _lowered(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Newer opsets mostly add dtypes to ops and ops that are functions of older ones."""
    import onnx

    if functions := _newer_functions(proto):
        proto = _inlined(proto, functions)
    current = opset(proto)
    for version in range(NEWEST, current):
        if all(_means_the_same(node, current, version) for node in all_nodes(proto)):
            lowered = onnx.ModelProto()
            lowered.CopyFrom(proto)
            for item in lowered.opset_import:
                if item.domain in STANDARD_DOMAINS:
                    item.version = version
            lowered.ir_version = min(lowered.ir_version, _IR_VERSION)
            return lowered
    return proto


def _inlined(proto: onnx.ModelProto, functions: list[tuple[str, str]]) -> onnx.ModelProto:
    """With the bodies of `functions` in place of their calls; unchanged where ONNX cannot infer their types."""
    import onnx.inliner
    from onnx import helper

    typed = onnx.ModelProto()
    typed.CopyFrom(proto)
    for item in proto.graph.initializer:  # the inliner looks for the types of weights here
        typed.graph.value_info.append(helper.make_tensor_value_info(item.name, item.data_type, item.dims))
    try:
        typed = onnx.shape_inference.infer_shapes(typed, data_prop=True)
        return onnx.inliner.inline_selected_functions(typed, functions, inline_schema_functions=True)
    except Exception:  # RuntimeError, InferenceError and C++ exceptions alike; the runtime may have a kernel
        return proto


def _newer_functions(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """Ops that are newer than `NEWEST` and defined by older ones."""
    current = opset(proto)
    functions = {}
    for node in all_nodes(proto):
        schema: Any = _schema(node, current)  # whose stubs know not all that it has
        if schema is None or _schema(node, NEWEST) is not None:
            continue
        if schema.has_function or schema.has_context_dependent_function:
            functions[node.op_type] = (node.domain, node.op_type)
    return list(functions.values())


def _means_the_same(node: onnx.NodeProto, now: int, then: int) -> bool:
    """Whether opset `then` defines what `node` uses of its op as opset `now` does, but for dtypes."""
    if node.domain not in STANDARD_DOMAINS:
        return True
    new, old = _schema(node, now), _schema(node, then)
    if new is None or old is None:
        return False
    if new.since_version == old.since_version:
        return True
    stated = {item.name for item in node.attribute}
    known = {name: item.default_value for name, item in old.attributes.items()}
    defaults = {name: item.default_value for name, item in new.attributes.items()}
    return (
        stated <= {*known}
        and all(defaults.get(name) == value for name, value in known.items() if name not in stated)
        and old.min_input <= len(node.input) <= old.max_input
        and old.min_output <= len(node.output) <= old.max_output
    )


def _schema(node: onnx.NodeProto, version: int) -> onnx.defs.OpSchema | None:
    import onnx.defs

    if node.domain not in STANDARD_DOMAINS:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
