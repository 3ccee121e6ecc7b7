"""A torch graph of an ONNX model, so that the torch passes and backends serve it too.

Imports torch: only for use inside functions.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from edgec.model.onnx_torch.build import build_graph
from edgec.model.onnx_torch.call import NoTorchFormError
from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.model.spec import Array
from edgec.model.trace import Traced


def torch_graph(proto: Any, samples: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> Traced:
    """Convert a ModelProto to an FX graph of plain ``torch.nn`` modules, for the shapes of the samples.

    Args:
        proto: with all tensor data inside.
        samples: pairs of inputs and the outputs that the original gives for them.

    Returns:
        The graph, checked against every sample, or the reason there is none.
    """
    tensors = [[torch.from_numpy(array.copy()) for array in inputs] for inputs, _ in samples]
    try:
        graph = build_graph(proto, tensors[0])
    except NoTorchFormError as exc:
        return Traced(None, f"the model is known as ONNX only: {exc}")
    for inputs, (_, outputs) in zip(tensors, samples, strict=True):
        with torch.no_grad():
            ours = tensors_of(graph(*inputs))
        if not close(ours, [torch.from_numpy(array.copy()) for array in outputs], tolerance=1e-3):
            return Traced(None, "the model is known as ONNX only: its conversion to torch computes something else")
    return Traced(graph)


@contextmanager
def _torchvision() -> Iterator[None]:
    """A stand-in for torchvision while onnx2torch is imported, to compare its conversion with edgec's.

    Only its detection ops use torchvision, and they then fail.
    """
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
