"""One small model of each family that users bring; untrained, for it is the arithmetic that is compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

INPUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "Transformer": {"x": (1, 10, 16)},
    "Text": {"ids": (1, 12)},
    "Recurrent": {"x": (1, 4, 16)},
    "TwoInputs": {"image": (1, 3, 16, 16), "vector": (1, 6)},
    "Detector": {"x": (1, 3, 32, 32)},
    "Mobile": {"x": (1, 3, 32, 32)},
    "Audio": {"x": (1, 1, 800)},
    "Segmenter": {"x": (1, 3, 16, 16)},
    "ConvNext": {"x": (1, 3, 32, 32)},
}
"""Family -> shape of each input; those called ``ids`` are token ids, all others float32."""
PRODUCTS = ("conv", "gemm", "matmul", "linear", "fully_connected", "lstm", "gru", "attention")
"""Parts of the names of ops that multiply matrices, in every runtime."""


class Transformer(nn.Module):
    """torch's own encoder on float features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        self.encode = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.encode(self.embed(x)).mean(1))


class Text(nn.Module):
    """Token ids, embedding with positions, pre-norm attention with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.position = nn.Parameter(torch.randn(12, 32))
        self.encode = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, ids: torch.Tensor) -> Any:
        return self.head(self.encode(self.embed(ids) + self.position)[:, 0])


class Recurrent(nn.Module):
    """LSTM, then GRU; the last step is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.gru = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


class TwoInputs(nn.Module):
    """An image and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.dense = nn.Linear(6, 8)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor, vector: torch.Tensor) -> Any:
        return self.head(
            torch.cat([functional.relu(self.conv(image)).mean((2, 3)), functional.relu(self.dense(vector))], 1)
        )


class Detector(nn.Module):
    """Two scales with upsampling; a dict of boxes and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 16, 3, 2, 1)
        self.coarse = nn.Conv2d(16, 32, 3, 2, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge = nn.Conv2d(48, 16, 1)
        self.boxes = nn.ModuleList([nn.Conv2d(16, 4, 1), nn.Conv2d(32, 4, 1)])
        self.scores = nn.ModuleList([nn.Conv2d(16, 6, 1), nn.Conv2d(32, 6, 1)])

    def forward(self, x: torch.Tensor) -> Any:
        fine = functional.silu(self.fine(x))
        coarse = functional.silu(self.coarse(fine))
        scales = [functional.relu(self.merge(torch.cat([fine, self.up(coarse)], 1))), coarse]
        boxes = torch.cat([head(scale).flatten(2) for head, scale in zip(self.boxes, scales, strict=True)], 2)
        scores = torch.cat([head(scale).flatten(2) for head, scale in zip(self.scores, scales, strict=True)], 2)
        return {"boxes": boxes.transpose(1, 2), "scores": scores.transpose(1, 2).sigmoid()}


class Mobile(nn.Module):
    """Inverted residuals with ReLU6, a squeeze-and-excitation gate, hard activations."""

    def __init__(self) -> None:
        super().__init__()

        def block(inner: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(8, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
                nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
                nn.Conv2d(inner, 8, 1, bias=False), nn.BatchNorm2d(8),
            )  # fmt: skip

        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.first, self.second = block(32), block(32)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        x = x + self.first(x)
        x = x + self.second(x)
        gate = functional.hardsigmoid(self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))))
        return self.head((x * gate).mean((2, 3)))


class Audio(nn.Module):
    """One-dimensional convolutions on a waveform."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 9, 4, 4), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class Segmenter(nn.Module):
    """Down by strides, up by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 2, 2), nn.ReLU(), nn.ConvTranspose2d(16, 4, 2, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class ConvNext(nn.Module):
    """Patches, a large depthwise kernel, LayerNorm over channels, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.depthwise = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.norm = nn.LayerNorm(16)
        self.wide, self.narrow = nn.Linear(16, 64), nn.Linear(64, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(functional.gelu(self.wide(y))).permute(0, 3, 1, 2)
        return self.head((x + y).mean((2, 3)))
