"""Float models made of a module, and what passes need to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgec.dataset.spool import Spool, write_index
from edgec.model.outputs import flatten_outputs, is_flat
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.trace import trace
from edgec.model.wrappers import FlatOutputs
from edgec.passes.contract import PassContext
from edgec.target.load import load_target

Wrap = Callable[..., FloatModel]


@pytest.fixture
def wrap() -> Wrap:
    """A FloatModel of a module in eval mode, with lively BatchNorm statistics."""
    torch.set_num_threads(1)

    def make(module: torch.nn.Module, *shapes: tuple[int, ...]) -> FloatModel:
        source = torch.Generator().manual_seed(0)
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
                part.running_mean.copy_(torch.randn(part.num_features, generator=source))
                part.running_var.copy_(torch.rand(part.num_features, generator=source) + 0.5)
                if part.affine:
                    torch.nn.init.normal_(part.weight, generator=source)
                    torch.nn.init.normal_(part.bias, generator=source)
        inputs = tuple(TensorSpec(name=f"x{index}", shape=shape) for index, shape in enumerate(shapes))
        sample = sample_tensors(inputs, seed=0)
        with torch.no_grad():
            result = module.eval()(*sample)
        traced = trace(module, sample, sample_tensors(inputs, seed=1))
        return FloatModel(
            name="net",
            source=ModelSource(format="python", path="net.py", sha256="0" * 64, entry="make"),
            inputs=inputs,
            outputs=tuple(TensorSpec(name=name, shape=tuple(item.shape)) for name, item in flatten_outputs(result)),
            graph=traced.graph,
            untraceable=traced.untraceable,
            module=traced.graph or (module if is_flat(result) else FlatOutputs(module)),
        )

    return make


@pytest.fixture
def ctx(tmp_path: Path) -> PassContext:
    """The context of a float target."""
    target = load_target("rpi4-fp32", tmp_path).target
    return PassContext(target, tmp_path)


@pytest.fixture
def calibrated(ctx: PassContext, tmp_path: Path) -> Callable[..., PassContext]:
    """`ctx` with calibration samples: one array ``(samples, *input shape)`` for each input of a model."""

    def make(model: FloatModel, *arrays: Any) -> PassContext:
        folder = tmp_path / "spool"
        folder.mkdir(exist_ok=True)
        for place, array in enumerate(arrays):
            np.save(folder / f"{place}.npy", array)
        count = len(arrays[0])
        np.save(folder / "digests.npy", np.zeros((count, 32), np.uint8))
        np.save(folder / "indices.npy", np.arange(count))
        digests = [index.to_bytes(32, "little") for index in range(count)]
        write_index(
            folder, model.inputs, digests=digests, indices=range(count), labels=None, origin="made up", notes=()
        )
        return replace(ctx, calibration=Spool(folder))

    return make
