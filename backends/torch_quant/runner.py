"""A TorchScript artifact, loaded and ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgec.backends.binding import artifact_inputs, model_outputs
from edgec.backends.interface import Artifact, OpRecord, OpTime
from edgec.backends.torch_quant.audit import executed_ops, with_layers
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.profile import op_times
from edgec.errors import UnsupportedError
from edgec.model.outputs import tensors_of
from edgec.model.spec import Array, Tensors


class TorchRunner:
    """Runs one sample a call, with the artifact's engine.

    Args:
        artifact: how to feed the file.
        file: the TorchScript file.
        threads: threads within an op.

    Raises:
        UnsupportedError: torch does not load the file.
    """

    def __init__(self, artifact: Artifact, file: Path, threads: int) -> None:
        import torch

        self._artifact, self._file, self._threads = artifact, file, threads
        self.engine = artifact.engine or torch.backends.quantized.engine
        with running(self.engine, threads):
            try:
                load: Any = torch.jit.load
                self.module = load(str(file), map_location="cpu").eval()
            except (RuntimeError, ValueError) as exc:
                reason = (str(exc).strip().splitlines() or ["no message"])[0]
                raise UnsupportedError(f"torch does not load the file: {reason}", where=file.name) from exc

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        import torch

        feeds = [torch.from_numpy(value) for value in artifact_inputs(self._artifact, inputs)]
        with running(self.engine, self._threads):
            tensors = tensors_of(self.module(*feeds))
        return model_outputs(self._artifact, [tensor.numpy() for tensor in tensors])

    def ops(self) -> Sequence[OpRecord]:
        return with_layers(executed_ops(self.module, self._artifact.precision), self._artifact.coverage)

    def op_times(self, inputs: Tensors, runs: int) -> Sequence[OpTime]:
        """Time of each op that the profiler distinguishes (`profile.op_times`)."""
        return op_times(lambda: self(inputs), self.ops(), runs)
