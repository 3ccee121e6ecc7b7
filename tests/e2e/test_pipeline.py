"""A broken pipeline does not ship: photos in another size or other colours, weak models, data of one target only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.bundle.check import check_digests
from edgec.errors import DataLeakError, DatasetError, ProjectError, WeakFloatError

from .command import edgec_here

NET = """
import torch
from torch import nn

def net():
    module = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)
    )
    with torch.no_grad():
        for layer, mixes in ((module[0], torch.eye(3)), (module[4], torch.eye(3).flip(0))):
            layer.weight.copy_(mixes.reshape(layer.weight.shape))
            layer.bias.zero_()
    return module
"""
TOML = """
[model]
path = "net.py:net"
[[model.inputs]]
name = "photo"
shape = [1, 3, {shape}]
[preprocess]
divide = 255
{more}
[calibration]
data = "train"
[evaluation]
data = "test"
[build]
effort = "fast"
"""
CLASSES = ("blue", "green", "red")
"""In the order of their folders: the net's outputs, from channels red, green, blue, are turned round."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of 48x64 in which one colour is the strongest; of ten for each class one has another."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, count in (("train", 12), ("test", 30)):
        for index, color in enumerate(CLASSES):
            folder = root / name / color
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 160, (48, 64, 3), dtype=np.uint8)
                strong = 2 - index if name == "train" or k % 10 else 2 - (index + 1) % 3
                pixels[:, :, strong] = rng.integers(100, 256, (48, 64), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{k:02}.png")
    return root


@pytest.fixture
def project(photos: Path, tmp_path: Path) -> Path:
    for name in ("train", "test"):
        (tmp_path / name).symlink_to(photos / name)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "targets").mkdir()
    for name in ("fp32", "int8"):
        text = f'extends = "x86-64-vnni-{name}"\n[[emit]]\nbackend = "onnxruntime"\n'
        (tmp_path / "targets" / f"{name}.toml").write_text(text)
    stated(tmp_path)
    return tmp_path


def stated(project: Path, shape: str = "48, 64", more: str = "") -> None:
    (project / "edgec.toml").write_text(TOML.format(shape=shape, more=more))


def bundles(project: Path) -> list[str]:
    return [path.parent.name for path in sorted((project / "dist").glob("*/manifest.json"))]


def test_another_size_is_refused_and_the_line_that_is_told_works(project: Path) -> None:
    stated(project, "32, 32")
    run = edgec_here("build", "-t", "fp32", cwd=project)
    assert run.code == DatasetError.exit_code, run.errors
    assert "00.png: is 48x64 (height x width)" in run.errors
    (line,) = re.findall(r'add to \[preprocess\]: (resize = "[\w-]+")', run.errors)
    stated(project, "32, 32", line)
    run = edgec_here("build", "-t", "fp32", cwd=project)
    assert run.code == 0, run.errors
    told = "48x64 RGB -> center crop 32x32 -> / 255 -> float32 [1,3,32,32], "
    assert f"first sample of test: {told}" in run.errors
    bundle = project / "dist" / "fp32"
    data = check_digests(bundle).evaluation
    assert data is not None
    assert data.first_sample[0].startswith(told)
    page = (bundle / "report.html").read_text()
    assert 'src="data:image/png;base64,' in page


@pytest.mark.slow
def test_swapped_height_and_width_are_refused(project: Path) -> None:
    stated(project, "64, 48")
    run = edgec_here("build", "-t", "fp32", cwd=project)
    assert run.code == DatasetError.exit_code
    assert "height and width may be swapped in [[model.inputs]]" in run.errors
    assert bundles(project) == []


def test_swapped_channels_are_refused_unless_allowed(project: Path) -> None:
    stated(project, more='color = "bgr"')
    run = edgec_here("build", "-t", "int8", cwd=project)
    assert run.code == WeakFloatError.exit_code, run.errors
    assert re.search(r"is 3\d\.\d % \(\d\d of 90, 95 % interval .* %\), and chance is 33\.\d %", run.errors), run.errors
    for word in ("[preprocess] color", "mean, std or divide", "48x64 RGB -> BGR -> / 255", "--allow-weak-float"):
        assert word in run.errors
    assert "lower" not in run.errors  # nothing was made yet
    assert bundles(project) == []
    run = edgec_here("build", "-t", "int8", "--allow-weak-float", cwd=project)
    assert run.code == 0, run.errors
    assert "built all the same, as allow_weak_float says" in run.errors
    assert "built all the same" in (project / "dist" / "int8" / "report.html").read_text()


@pytest.mark.slow
def test_min_accuracy(project: Path) -> None:
    run = edgec_here("build", "-t", "fp32", "--min-accuracy", "95", cwd=project)
    assert run.code == WeakFloatError.exit_code, run.errors
    assert "top1 is 90 % on 90 evaluation samples, below min_accuracy 95 %" in run.errors
    assert bundles(project) == []
    run = edgec_here("build", "-t", "fp32", "--min-accuracy", "0.85", cwd=project)
    assert run.code == 0, run.errors
    (gate,) = check_digests(project / "dist" / "fp32").gates
    assert (gate.gate, gate.limit, gate.value, gate.state) == ("min_accuracy", 85, 90, "met")
    run = edgec_here("build", "-t", "fp32", "--min-accuracy", "0.85", "--metric", "agreement", cwd=project)
    assert run.code == ProjectError.exit_code
    assert "measures no accuracy" in run.errors


def test_the_data_of_all_targets_is_right_before_the_first_artifact(project: Path) -> None:
    toml = (project / "edgec.toml").read_text()
    (project / "edgec.toml").write_text(toml.replace('data = "train"', 'data = "test"'))
    run = edgec_here("build", "-t", "fp32", "-t", "int8", cwd=project)  # float32 alone does not calibrate
    assert run.code == DataLeakError.exit_code, run.errors
    assert "fp32: " not in run.errors
    assert bundles(project) == []
    (project / "edgec.toml").write_text(toml.replace('[calibration]\ndata = "train"', ""))
    run = edgec_here("build", "-t", "fp32", "-t", "int8", cwd=project)
    assert run.code == ProjectError.exit_code, run.errors
    assert "no calibration data is named" in run.errors
    assert bundles(project) == []


@pytest.mark.slow
def test_targets_that_are_built_together_are_the_same_as_alone(project: Path) -> None:
    run = edgec_here("build", "-t", "fp32", "-t", "int8", cwd=project)
    assert run.code == 0, run.errors
    assert run.errors.count("run the float model") == 1
    assert bundles(project) == ["fp32", "int8"]
    for name in ("fp32", "int8"):
        run = edgec_here("build", "-t", name, "--out", "alone", cwd=project)
        assert run.code == 0, run.errors
        alone, together = (project / folder / name / "manifest.json" for folder in ("alone", "dist"))
        assert alone.read_bytes() == together.read_bytes()
