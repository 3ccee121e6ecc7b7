"""Keyword spotting with 4-bit weights, learnt from the 200 calibration samples alone. Run by `make test-data`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from host_target import HOST

from edgec.dataset.spool import Spool
from edgec.dataset.write import Purpose, write_spool
from edgec.model import store
from edgec.model.load import load_model
from edgec.passes.contract import PassContext
from edgec.passes.graph_edit import own_graph
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes
from edgec.passes.weight_layers import weight_layers
from edgec.passes.weight_simulation import simulated_weight
from edgec.project.spec import DataSpec, InputSpec, ModelSpec, Preprocess, TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.target.load import load_target
from edgec.train.requests import TrainAnswer, TrainRequest
from edgec.workers.worker import call

pytestmark = pytest.mark.data

FOUR_BITS = WeightGrid(limit=7)
FLOAT, LARGEST_DROP = 91.25, 2.0
"""Top-1 of the float model in percent, and points that may be lost. Two samples are 0.5 points."""


@dataclass(frozen=True)
class KeywordSpotting:
    """The float model after the portable passes, and its data."""

    graph: Any
    folder: Path
    training: Spool
    evaluation: Spool

    def top1(self, graph: Any) -> float:
        """Of the 400 evaluation samples, in percent."""
        assert self.evaluation.labels is not None
        with torch.no_grad():
            scores = graph(torch.cat([torch.from_numpy(sample["mfcc"]) for sample in self.evaluation]))
        return 100 * float(np.mean(scores.argmax(dim=1).numpy() == self.evaluation.labels))


@pytest.fixture
def kws(data_folder: Path, tmp_path: Path) -> KeywordSpotting:
    """Loaded as a build loads it."""
    torch.set_num_threads(1)
    source = data_folder / "mlperf-tiny-kws"
    for name in ("ds_cnn.py", "kws_dscnn.pt"):
        shutil.copyfile(source / name, tmp_path / name)
    inputs = (InputSpec(name="mfcc", shape=(1, 1, 49, 10)),)
    model = load_model(ModelSpec(path="ds_cnn.py:DSCNN", weights="kws_dscnn.pt", inputs=inputs), tmp_path)
    target = load_target(f"{HOST}-int8", tmp_path).target
    model, _ = run_passes(portable_passes(), model, PassContext(target, tmp_path), store.fingerprint)
    store.save(model, tmp_path / "model")

    def spool(name: str, what: Purpose) -> Spool:
        spec = DataSpec(data=str(source / f"{name}.npz"), inputs={"mfcc": "x"}, labels="y")
        folder = tmp_path / name
        return write_spool(spec, Preprocess(), model.inputs, folder, tmp_path, samples=None, seed=0, what=what)

    training, evaluation = spool("kws_calibration_200", "training"), spool("kws_eval_400", "evaluation")
    return KeywordSpotting(model.graph, tmp_path, training, evaluation)


@pytest.mark.parametrize("activations", ["float", "int8"])
def test_four_bit_weights_keep_the_accuracy(kws: KeywordSpotting, activations: Literal["float", "int8"]) -> None:
    assert kws.top1(kws.graph) == FLOAT
    request = TrainRequest(
        model=kws.folder / "model",
        grid=FOUR_BITS,
        activations=activations,
        spec=TrainSpec(data="kws_calibration_200.npz"),
        training=kws.training.folder,
        calibration=kws.training.folder,
        out=kws.folder / "out",
        checkpoints=kws.folder / "checkpoints",
        root=kws.folder,
        seed=0,
        threads=1,
    )
    call("edgec.train.task:train_quantized", request, TrainAnswer, log=kws.folder / "log", what="train")
    trained = store.load(kws.folder / "out").graph
    assert trained is not None
    on_grid, nearest = own_graph(store.load(kws.folder / "out")), own_graph(store.load(kws.folder / "model"))
    for graph in (on_grid, nearest):
        for layer in weight_layers(graph)[0]:
            layer.module.weight = torch.nn.Parameter(simulated_weight(layer.module, FOUR_BITS))
    value = kws.top1(on_grid)
    assert value == kws.top1(trained), "its weights are on the grid already"
    assert value >= FLOAT - LARGEST_DROP
    assert value > kws.top1(nearest)
