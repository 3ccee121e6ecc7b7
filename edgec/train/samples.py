"""Training samples as tensors, in batches where the model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import fx

from edgec.dataset.balance import class_labels
from edgec.dataset.spool import Spool
from edgec.model.outputs import tensors_of
from edgec.model.samples import close
from edgec.model.spec import TensorSpec
from edgec.passes.weight_layers import sample_of

Inputs = tuple[torch.Tensor, ...]


class Samples(Sequence[tuple[Inputs, torch.Tensor | None]]):
    """Sample i is (inputs in call order, with the batch axis; label of shape (1, ...) or None).

    The batch axis is 1, or what the model fixes it at; there are then as many labels.

    Class labels are int64, others float32 (or whatever integers they are).
    """

    def __init__(self, spool: Spool, inputs: Sequence[TensorSpec]) -> None:
        self._spool, self._inputs, self._group = spool, tuple(inputs), spool.info.group
        classes = class_labels(spool.labels)
        self.has_classes = classes is not None
        """Whether labels are class numbers."""
        labels = spool.labels if classes is None else classes.astype(np.int64)
        if labels is not None and labels.dtype == np.float64:
            labels = labels.astype(np.float32)
        self.has_targets = labels is not None and classes is None
        """Whether labels are anything else."""
        self._labels = None if labels is None else torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self._spool)

    def __getitem__(self, index: int) -> tuple[Inputs, torch.Tensor | None]:  # type: ignore[override]  # no slices
        index = range(len(self))[index]
        labels = None if self._labels is None else self._labels[index * self._group : (index + 1) * self._group]
        return sample_of(self._spool, self._inputs, index), labels

    def batch(self, indices: Sequence[int]) -> tuple[Inputs, torch.Tensor | None]:
        """Several samples as one, along the first axis."""
        rows = [self[index] for index in indices]
        inputs = tuple(torch.cat(column) for column in zip(*(row[0] for row in rows), strict=True))
        labels = None if self._labels is None else torch.cat([row[1] for row in rows if row[1] is not None])
        return inputs, labels

    def label_range(self) -> tuple[int, int]:
        """Least and greatest class label."""
        assert self._labels is not None, "has_classes is false"
        return int(self._labels.min()), int(self._labels.max())


def takes_batches(graph: fx.GraphModule, samples: Samples) -> bool:
    """Whether two samples at once give what each gives alone: many graphs have their batch of 1 built in."""
    first, other = samples[0][0], samples[len(samples) // 2][0]
    if len(samples) < 2 or any(item.dim() == 0 or len(item) != 1 for item in first):
        return False
    with torch.no_grad():
        alone = [tensors_of(graph(*[item.clone() for item in row])) for row in (first, other)]
        try:
            # not the graph itself, which prints where it fails
            both = tensors_of(fx.Interpreter(graph).run(*[torch.cat(pair) for pair in zip(first, other, strict=True)]))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            return False
    if any(item.dim() == 0 or len(item) != 1 for row in alone for item in row):
        return False
    return close(both, [torch.cat(pair) for pair in zip(*alone, strict=True)])


def shuffled(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """The batches of one epoch; they follow from `seed` and `epoch` alone, so that any epoch can be done again."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return (order[start : start + batch_size] for start in range(0, count, batch_size))
