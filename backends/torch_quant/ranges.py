"""An int8 TorchScript file whose quantized activations are read as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.binding import artifact_inputs
from edgec.backends.interface import ActivationRange, Artifact
from edgec.backends.ranges import range_of, use_by_codes, use_by_values
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.runner import TorchRunner
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors


class TorchRangeWatch:
    """A file whose graph returns its quantized activations too.

    Ranges are known once it has run, for TorchScript records no dtypes of tensors: it runs once on zeros. Arguments as
    of `edgec.backends.interface.RangeWatcher.watch_ranges`.
    """

    def __init__(self, artifact: Artifact, file: Path, threads: int) -> None:
        self._artifact, self._threads = artifact, threads
        self._runner = TorchRunner(artifact, file, threads)
        self._graph = self._runner.module.inlined_graph.copy()
        values, names, sources = _watched(self._graph, artifact)
        for value in values:
            self._graph.registerOutput(value)
        self._count = len(values)
        outputs = self._run([np.zeros(item.shape, item.dtype) for item in artifact.inputs])
        kept = [number for number, value in enumerate(outputs) if _has_one_grid(value)]
        if not kept:
            raise UnsupportedError("the file has no quantized activations", where=file.name)
        self._kept = kept
        self._inputs = [sources[number] for number in kept]
        order = [item.name for item in artifact.inputs]
        self.ranges = tuple(
            ActivationRange(
                tensor=names[number] if place is None else f"input {order[place]}",
                low=low,
                high=high,
                input="" if place is None else order[place],
            )
            for number, place in zip(kept, self._inputs, strict=True)
            for low, high in (range_of(*_grid(outputs[number])),)
        )

    def __call__(self, inputs: Tensors) -> Array:
        fed = artifact_inputs(self._artifact, inputs)
        outputs = self._run(fed)
        uses = []
        for known, place, number in zip(self.ranges, self._inputs, self._kept, strict=True):
            scale, zero_point, _ = _grid(outputs[number])
            if place is not None:
                uses.append(use_by_values(fed[place], known.low, known.high, scale))
            else:
                uses.append(use_by_codes(outputs[number].int_repr().numpy(), zero_point))
        return np.array(uses, np.float64)

    def _run(self, fed: list[Array]) -> list[Any]:
        import torch

        interpret: Any = getattr(torch._C, "_jit_interpret_graph")  # noqa: B009  # it has no types
        with running(self._runner.engine, self._threads):
            outputs = interpret(self._graph, (self._runner.module._c, *map(torch.from_numpy, fed)))
        return list(outputs)[-self._count :]


def _watched(graph: Any, artifact: Artifact) -> tuple[list[Any], list[str], list[int | None]]:
    """Tensors that a quantizing op makes: values of the graph, names as in the dtype audit, and the input it reads."""
    inputs = {value.debugName(): place for place, value in enumerate(list(graph.inputs())[1:])}
    values, names, sources = [], [], []
    for number, node in enumerate(graph.nodes()):
        space, _, op = node.kind().partition("::")
        if (space != "quantized" and op != "quantize_per_tensor") or "dynamic" in op:
            continue
        for value in node.outputs():
            if str(value.type()) == "Tensor":
                values.append(value)
                names.append(f"{op}_{number}")
                read = next(iter(node.inputs())).debugName()
                sources.append(inputs.get(read) if op == "quantize_per_tensor" else None)
    return values, names, sources


def _has_one_grid(value: Any) -> bool:
    import torch

    return bool(value.is_quantized) and value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric)


def _grid(value: Any) -> tuple[float, int, str]:
    return float(value.q_scale()), int(value.q_zero_point()), str(value.int_repr().dtype).removeprefix("torch.")
