"""The portable passes on real models: each does what it promises and the function stays the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.backends.torch_quant.embed_padding import embed_asymmetric_padding
from edgec.model.fingerprint import fingerprint
from edgec.model.outputs import tensors_of
from edgec.model.samples import close, sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext
from edgec.passes.fold_batch_norm import FoldBatchNorm
from edgec.passes.fold_constant_padding import FoldConstantPadding
from edgec.passes.portable import portable_passes
from edgec.passes.rewrite_as_modules import RewriteAsModules
from edgec.passes.runner import run_passes
from edgec.passes.strip_inference_no_ops import StripInferenceNoOps


class SameConv(nn.Conv2d):
    """A Conv2d subclass that pads as TensorFlow does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == (2, 2):
            x = functional.pad(x, (0, 1, 0, 1))
            return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return functional.conv2d(x, self.weight, self.bias, self.stride, "same", self.dilation, self.groups)


class Mobile(nn.Module):
    """Depthwise blocks with a shared ReLU6, a residual, dropout and a functional tail."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = SameConv(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.depth, self.norm2 = SameConv(8, 8, 3, groups=8), nn.BatchNorm2d(8)
        self.point, self.norm3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.act = nn.ReLU6()
        self.skip = nn.Identity()
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.stem(x)))
        y = self.act(self.norm2(self.depth(x)))
        x = self.skip(x) + self.norm3(self.point(y))
        x = functional.dropout(functional.relu6(x), 0.3, training=self.training)
        scale = self.weight / self.weight.norm(dim=1, keepdim=True)
        return functional.linear(x.mean((2, 3)), scale)


class Encoder(nn.Module):
    """Attention, LSTM and several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> Any:
        out, (hidden, _) = self.lstm(self.drop(self.layer(x)))
        return {"tags": self.head(out), "state": hidden}


def _seq(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


MODELS = {
    "mobile": (Mobile, (1, 3, 12, 12)),
    "encoder": (Encoder, (1, 5, 8)),
    "audio": (lambda: _seq(nn.Conv1d(2, 4, 5, padding="same"), nn.BatchNorm1d(4), nn.GELU()), (1, 2, 20)),
    "deconv": (lambda: _seq(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6)), (1, 4, 5, 5)),
    "even": (lambda: _seq(nn.Conv2d(1, 2, (4, 3), padding="same"), nn.ReLU()), (1, 1, 7, 7)),
    "linear": (lambda: _seq(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.AlphaDropout(), nn.Linear(6, 2)), (1, 4)),
}


def _outputs(model: FloatModel, seed: int = 9) -> list[torch.Tensor]:
    assert model.graph is not None
    with torch.no_grad():
        return tensors_of(model.graph(*sample_tensors(model.inputs, seed=seed)))


def _kinds(model: FloatModel) -> list[str]:
    assert model.graph is not None
    return [
        type(model.graph.get_submodule(str(node.target))).__name__
        for node in model.graph.graph.nodes
        if node.op == "call_module"
    ]


@pytest.mark.parametrize("name", MODELS)
def test_function_is_kept_and_a_second_run_changes_nothing(name: str, wrap: Any, ctx: PassContext) -> None:
    make, shape = MODELS[name]
    model = wrap(make(), shape)
    passes = portable_passes()
    done, records = run_passes(passes, model, ctx, fingerprint)
    assert [item.state for item in records].count("skipped") == 0
    assert close(_outputs(done), _outputs(model))
    assert [item.name for item in records if item.state == "changed"]
    _, again = run_passes(passes, done, ctx, fingerprint)
    assert {item.state for item in again} == {"unchanged"}


def test_mobile_becomes_plain_foldable_modules(wrap: Any, ctx: PassContext) -> None:
    done, records = run_passes(portable_passes(), wrap(Mobile(), (1, 3, 12, 12)), ctx, fingerprint)
    kinds = _kinds(done)
    assert kinds.count("Conv2d") == 3
    assert kinds.count("ZeroPad2d") == 1  # the asymmetric one
    assert "Linear" in kinds  # the weight that the forward computes is a constant
    assert not {"BatchNorm2d", "Identity", "SameConv"} & set(kinds)
    assert kinds.count("ReLU6") == 3
    [kept] = [item for record in records for item in record.coverage]
    assert (kept.state, "asymmetric" in kept.reason) == ("padding kept", True)
    assert {item.name: item.summary for item in records}["fold-batch-norm"] == "folded 3 BatchNorm"


@pytest.mark.parametrize("name", ["deconv", "linear", "audio"])
def test_batch_norm_is_gone(name: str, wrap: Any, ctx: PassContext) -> None:
    make, shape = MODELS[name]
    done = FoldBatchNorm().run(RewriteAsModules().run(wrap(make(), shape), ctx).model, ctx).model
    assert not any("BatchNorm" in kind for kind in _kinds(done))


class Forked(nn.Module):
    """A convolution read by two, one used twice, and a BatchNorm over another axis than the layer's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4)
        self.linear, self.axis = nn.Linear(6, 6), nn.BatchNorm1d(4)
        self.twice, self.norm2 = nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4)
        self.free = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = y + self.norm(y)
        y = self.axis(self.linear(y))
        return self.free(self.norm2(self.twice(self.twice(y))))


def test_what_cannot_be_folded_is_kept_with_its_reason(wrap: Any, ctx: PassContext) -> None:
    model = wrap(Forked(), (1, 4, 6))
    result = FoldBatchNorm().run(model, ctx)
    assert close(_outputs(result.model), _outputs(model))
    assert {item.subject: item.reason for item in result.coverage} == {
        "norm": "something else reads the layer's output too",
        "axis": "it does not normalize the layer's channels",
        "norm2": "the layer is used more than once",
        "free": "it does not follow a convolution or linear layer",
    }


def test_symmetric_padding_moves_into_the_convolution(wrap: Any, ctx: PassContext) -> None:
    model = wrap(_seq(nn.ZeroPad2d((2, 2, 1, 1)), nn.Conv2d(1, 2, 3, padding=1)), (1, 1, 6, 6))
    done = FoldConstantPadding().run(model, ctx).model
    assert _kinds(done) == ["Conv2d"]
    assert done.graph.get_submodule("1").padding == (2, 3)
    assert close(_outputs(done), _outputs(model))


@pytest.mark.parametrize(
    "follower", [nn.MaxPool2d(2), nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")], ids=["pool", "reflect"]
)
def test_padding_stays_before_what_pads_otherwise(follower: nn.Module, wrap: Any, ctx: PassContext) -> None:
    model = wrap(_seq(nn.ZeroPad2d(1), follower), (1, 1, 6, 6))
    result = FoldConstantPadding().run(model, ctx)
    assert "ZeroPad2d" in _kinds(result.model)
    assert result.coverage


@pytest.mark.parametrize("size", [7, 8, 9, 10])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("kernel", "pads"), [(3, (0, 1, 0, 1)), (5, (1, 2, 2, 1)), (4, (3, 0, 1, 1)), ((2, 3), (1, 0, 0, 2))]
)
@pytest.mark.parametrize("sized", [True, False])
def test_embedded_padding_is_exact(size: int, stride: int, kernel: Any, pads: Any, sized: bool, wrap: Any) -> None:
    model = wrap(_seq(nn.ZeroPad2d(pads), nn.Conv2d(2, 4, kernel, stride, padding=1, groups=2)), (1, 2, size, size))
    expected = _outputs(model)
    example = sample_tensors(model.inputs, seed=0) if sized else None
    assert embed_asymmetric_padding(model.graph, example) == 1
    assert _kinds(model) == ["Conv2d"]
    assert close(_outputs(model), expected, tolerance=1e-6)


def test_same_padding_at_stride_two_gets_an_odd_kernel(wrap: Any) -> None:
    model = wrap(_seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 2, 3, 2, groups=2)), (1, 2, 8, 8))
    embed_asymmetric_padding(model.graph, sample_tensors(model.inputs, seed=0))
    assert model.graph.get_submodule("1").kernel_size == (5, 5)


def test_dilated_convolution_keeps_its_pad(wrap: Any) -> None:
    model = wrap(_seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 2, 3, 2, dilation=2)), (1, 2, 9, 9))
    assert embed_asymmetric_padding(model.graph) == 0
    assert _kinds(model) == ["ZeroPad2d", "Conv2d"]


class Branching(nn.Module):
    """Cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_without_a_graph_all_is_skipped_with_the_reason(wrap: Any, ctx: PassContext) -> None:
    model = wrap(Branching(), (1, 3))
    done, records = run_passes(portable_passes(), model, ctx, fingerprint)
    assert done is model
    assert {item.state for item in records} == {"skipped"}
    assert all("x.sum() > 0" in item.coverage[0].reason for item in records)


def test_training_dropout_is_not_stripped(wrap: Any, ctx: PassContext) -> None:
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.dropout(x, 0.0, training=True) + functional.dropout(x, 0.5, False)

    done = StripInferenceNoOps().run(wrap(Half(), (1, 3)), ctx).model
    calls = [node for node in done.graph.graph.nodes if node.target is functional.dropout]
    assert len(calls) == 1
    assert calls[0].kwargs["training"] is True


class NoPadding(nn.Module):
    """Padding by nothing, as a generic block with a variable number of pads writes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, ()).relu()


def test_padding_by_nothing_is_left_as_it_is(wrap: Any, ctx: PassContext) -> None:
    model = wrap(NoPadding(), (1, 4))
    done, records = run_passes(portable_passes(), model, ctx, fingerprint)
    assert "failed" not in {item.state for item in records}
    assert close(_outputs(done), _outputs(model))
