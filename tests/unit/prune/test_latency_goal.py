"""A share that was found by timing is kept for whatever would be timed the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.prune.latency_goal import what_is_timed
from edgec.target.load import load_target
from edgec.target.spec import Target


def target(root: Path, name: str, text: str) -> Target:
    (root / "targets").mkdir(exist_ok=True)
    (root / "targets" / f"{name}.toml").write_text(f'extends = "rpi4-int8"\n{text}\n')
    return load_target(name, root).target


BOTH = '[[emit]]\nbackend = "tflite"\n[[emit]]\nbackend = "onnxruntime"'


@pytest.mark.parametrize("text", ['description = "other"', "[budget]\nsize_kib = 100", BOTH])
def test_what_does_not_matter(tmp_path: Path, text: str) -> None:
    plain = target(tmp_path, "plain", '[[emit]]\nbackend = "tflite"')
    other = target(tmp_path, "other", text if text == BOTH else f'{text}\n[[emit]]\nbackend = "tflite"')
    assert other.digest() != plain.digest()
    assert what_is_timed(other) == what_is_timed(plain)


@pytest.mark.parametrize(
    "text", ['precision = "fp32"', '[quantize]\nweights = "per-tensor"', "[bench]\nthreads = 2", 'device = "rpi5"']
)
def test_what_changes_times(tmp_path: Path, text: str) -> None:
    plain = target(tmp_path, "plain", '[[emit]]\nbackend = "tflite"')
    assert what_is_timed(target(tmp_path, "other", f'{text}\n[[emit]]\nbackend = "tflite"')) != what_is_timed(plain)
