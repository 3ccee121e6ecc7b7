"""A sentence encoder shaped like MiniLM, with the outlier channels that trained ones have."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgec.model.spec import Array


class Block(nn.Module):
    """Attention and a feed-forward net, each followed by a sum and a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.norm_attention = nn.Linear(width, width), nn.LayerNorm(width)
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part(x).reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5 + hidden
        mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(batch, length, width)
        x = self.norm_attention(x + self.out(mixed))
        return self.norm(x + self.down(self.act(self.up(x))))


class Encoder(nn.Module):
    """Token ids to one normalized vector; id 0 is padding."""

    def __init__(self, layers: int, width: int, heads: int, words: int, length: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = (ids > 0).float()
        x = self.norm(self.words(ids) + self.places.weight)
        hidden = (1 - there)[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, hidden)
        pooled = (x * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)
        return pooled / pooled.norm(dim=1, keepdim=True)


def make_encoder(layers: int, width: int, heads: int, words: int = 2000, length: int = 128) -> Encoder:
    """An encoder with random weights in which a few channels of each norm are twenty times as large as the others.

    What reads these channels has small weights for them, as training leaves it: they are large, and carry little.
    """
    torch.manual_seed(7)
    model = Encoder(layers, width, heads, words, length).eval()
    channels = torch.randperm(width)[:4]
    with torch.no_grad():
        nn.init.normal_(model.words.weight, std=0.05)
        nn.init.normal_(model.places.weight, std=0.02)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.6, 1.2)
                module.weight[channels] *= 20
                module.bias.normal_(std=0.1)
        for layer in model.layers:
            assert isinstance(layer, Block)
            for part in (layer.query, layer.key, layer.value, layer.up):
                part.weight[:, channels] /= 20
    return model


def sentences(count: int, words: int = 2000, length: int = 128, seed: int = 0) -> Array:
    """Token ids, shape (count, length): some of a topic, some common to all, then padding."""
    source = np.random.default_rng(seed)
    ids = np.zeros((count, length), np.int64)
    for row in ids:
        size = int(source.integers(length // 8, length))
        topic = int(source.integers(1, words - 40))
        common = 1 + (source.zipf(1.3, size) % (words - 1))
        row[:size] = np.where(source.random(size) < 0.4, topic + source.integers(0, 40, size), common)
    return ids
