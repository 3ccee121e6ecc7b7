"""Runs a TorchScript file without edgec: the harness of a bundle loads this (`edgec.backends.interface.Format`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Runner:
    """A TorchScript file in torch; a quantized one needs the kernel library that it was made for.

    Args:
        entry: the artifact's table of bench.json.
        path: the file.
        runtime: name of the runtime; there is one.
        threads: CPU threads within an op.

    Raises:
        RuntimeError: this torch has no such kernel library.
    """

    def __init__(self, entry: dict[str, Any], path: Path, runtime: str, threads: int) -> None:
        import torch

        self.torch: Any = torch
        torch.set_num_threads(threads)
        if entry["engine"]:
            if entry["engine"] not in torch.backends.quantized.supported_engines:
                raise RuntimeError(f"this PyTorch has no quantized engine {entry['engine']}")
            torch.backends.quantized.engine = entry["engine"]
        self.module = self.torch.jit.load(str(path), map_location="cpu").eval()

    def prepare(self, arrays: list[Any]) -> list[Any]:
        """One sample as `run` takes it."""
        return [self.torch.from_numpy(array) for array in arrays]

    def run(self, feed: list[Any]) -> list[Any]:
        """The outputs of one sample."""
        with self.torch.inference_mode():
            return [tensor.numpy() for tensor in self.flatten(self.module(*feed))]

    def flatten(self, outputs: Any) -> list[Any]:
        """The tensors in what the module returns, in order, dequantized."""
        if isinstance(outputs, self.torch.Tensor):
            return [outputs.dequantize() if outputs.is_quantized else outputs]
        parts = outputs.values() if isinstance(outputs, dict) else outputs
        return [tensor for part in parts for tensor in self.flatten(part)]
