"""A pruned model that is kept between builds is the same when it is read, and damage is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from edgec.model import store
from edgec.prune.kept_model import load_pruned, save_pruned


@pytest.mark.parametrize("spec", [{"amount": 0.5}, {"sparsity": 0.5}])
def test_the_same_model_is_read_without_running_code(
    make_job: Callable[..., Any], digits_net: nn.Module, spec: dict[str, float], tmp_path: Path
) -> None:
    job = make_job(digits_net, samples=32)
    pruned, _ = job.prune(trained=False, without_training=True, **spec)
    kept = tmp_path / "kept"
    kept.mkdir()
    save_pruned(pruned, kept)
    assert {file.suffix for file in kept.iterdir()} == {".json", ".safetensors"}
    assert store.fingerprint(load_pruned(job.model, kept)) == store.fingerprint(pruned)
    assert store.fingerprint(pruned) != store.fingerprint(job.model)
    tensors = kept / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8] + b"\x01" * 8)
    assert store.fingerprint(load_pruned(job.model, kept)) != store.fingerprint(pruned)
