"""The ops of a torch graph by ONNX's names."""

from __future__ import annotations

import torch
from torch import nn

from edgec.model.samples import sample_tensors
from edgec.model.spec import TensorSpec
from edgec.model.trace import trace
from edgec.passes.fx_ops import ops_of_graph


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.SiLU()
        self.up = nn.Upsample(scale_factor=2, mode="bicubic")
        self.down = nn.Conv3d(1, 2, 3)
        self.lstm = nn.LSTM(16, 5, batch_first=True)
        self.dense = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.up(self.act(self.norm(self.conv(x))))
        deep = self.down(x[:, None])
        steps, _ = self.lstm(x.mean(1))
        return self.dense(steps[:, -1]).softmax(-1), torch.log(deep.abs() + 1)


def test_ops_of_modules_functions_and_methods() -> None:
    specs = (TensorSpec(name="x", shape=(1, 3, 8, 8)),)
    graph = trace(_Net().eval(), sample_tensors(specs, seed=0)).graph
    assert graph is not None
    found = ops_of_graph(graph, specs)
    kinds = [op.op for op in found.ops]
    for kind in (
        "Conv",
        "BatchNormalization",
        "Swish",
        "Resize",
        "ReduceMean",
        "LSTM",
        "Gemm",
        "Softmax",
        "Log",
        "Abs",
    ):
        assert kind in kinds, kinds
    by_name = {op.name: op for op in found.ops}
    assert (by_name["conv"].axes, by_name["down"].axes, by_name["up"].mode) == (2, 3, "cubic")
    assert by_name["norm"].inputs == by_name["conv"].outputs
    assert all(op.is_float for op in found.ops if op.op in ("Conv", "LSTM"))
    weights = 4 * 27 + 4 + 4 * 4 + 2 * 27 + 2 + 4 * 5 * (16 + 5) + 2 * 20 + 5 * 3 + 3
    assert found.weight_elements == weights
    assert found.tensor_bytes["x"] == 3 * 64 * 4
    assert found.peak_bytes(["x"]) >= 2 * 4 * 256 * 4
