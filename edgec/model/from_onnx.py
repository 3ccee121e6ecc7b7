"""A torch graph of an ONNX model, so that the torch passes and backends serve it too."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.model.spec import Array
from edgec.model.trace import Traced, trace

_OPSET = 17
"""The newest that onnx2torch 1.5.15 reads."""


def torch_graph(proto: Any, samples: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> Traced:
    """Convert a ModelProto with fixed dims to an FX graph of plain ``torch.nn`` modules.

    Args:
        proto: with all tensor data inside.
        samples: pairs of inputs and the outputs that the original gives for them.

    Returns:
        The graph, checked against every sample, or the reason there is none.
    """
    import torch

    try:
        module = _converted(_at_readable_opset(proto))
    except ImportError as exc:
        return Traced(None, f"the model is known as ONNX only ({exc.name} is not installed)")
    except Exception as exc:
        return Traced(None, f"the model is known as ONNX only: {type(exc).__name__}: {_first_line(exc)}")
    tensors = [[torch.from_numpy(array.copy()) for array in inputs] for inputs, _ in samples]
    traced = trace(module, tensors[0], tensors[-1])
    if traced.graph is None:
        return Traced(None, f"the model is known as ONNX only: {traced.untraceable}")
    for inputs, (_, outputs) in zip(tensors, samples, strict=True):
        with torch.no_grad():
            ours = tensors_of(traced.graph(*inputs))
        if not close(ours, [torch.from_numpy(array) for array in outputs], tolerance=1e-3):
            return Traced(None, "the model is known as ONNX only: its conversion to torch computes something else")
    _name_modules(traced.graph)
    return traced


def _at_readable_opset(proto: Any) -> Any:
    import onnx

    version = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)
    if version > _OPSET:
        proto = onnx.version_converter.convert_version(proto, _OPSET)
    return onnx.shape_inference.infer_shapes(proto)


def _converted(proto: Any) -> Any:
    with _torchvision():
        import onnx2torch

        return onnx2torch.convert(copy.deepcopy(proto)).eval()


@contextmanager
def _torchvision() -> Iterator[None]:
    """A stand-in for torchvision while onnx2torch is imported: only its detection ops use it, and they then fail."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
        setattr(package, "ops", ops)  # noqa: B010  # a ModuleType has no such attribute to mypy
        setattr(ops, "roi_align", None)  # noqa: B010
        before = {name: sys.modules.get(name) for name in ("torchvision", "torchvision.ops")}
        sys.modules.update({"torchvision": package, "torchvision.ops": ops})
        try:
            yield
        finally:
            for name, module in before.items():
                if module is None:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = module
    else:
        yield


def _name_modules(graph: Any) -> None:
    """Replace ``/`` and other signs in module names: a path of submodules is written with dots."""
    renamed: dict[str, str] = {}
    for node in graph.graph.nodes:
        if node.op != "call_module":
            continue
        target = str(node.target)
        if target not in renamed:
            name = "".join(sign if sign.isalnum() or sign in "._" else "_" for sign in target).strip("_.") or "layer"
            while name in renamed.values() or (name != target and hasattr(graph, name.split(".")[0])):
                name += "_"
            renamed[target] = name
            if name != target:
                graph.add_submodule(name, graph.get_submodule(target))
        node.target = renamed[target]
    graph.delete_all_unused_submodules()
    graph.recompile()


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
