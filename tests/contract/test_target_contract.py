"""Every target that ships: it loads, is possible, is planned without a toolchain, and has a stable digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.plan.fit import check_possible
from edgec.target.files import BUILT_IN, target_files
from edgec.target.load import check_file, load_target

NAMES = tuple(sorted(file.stem for file in BUILT_IN.glob("*.toml")))
DEVICES = tuple(sorted(file.stem for file in (BUILT_IN / "devices").glob("*.toml")))

PLAN_ALL = """
import json, sys
from pathlib import Path
from edgec.plan.plan import make_plan, record
from edgec.project.spec import CalibrationSpec, EvaluationSpec, ModelSpec, Project
from edgec.target.files import target_files
from edgec.target.load import load_target

root = Path(sys.argv[1])
project = Project(
    model=ModelSpec(path="model.py:Net"),
    calibration=CalibrationSpec(data="c.npz"),
    evaluation=EvaluationSpec(data="e.npz"),
)
found = {}
for name in target_files(root):
    resolved = load_target(name, root)
    plan = make_plan(resolved, project)
    found[name] = {"digest": resolved.target.digest(), "plan": record(plan).model_dump(mode="json")}
heavy = {"torch", "tensorflow", "onnx", "onnxruntime", "onnx2tf", "tflite_runtime", "ai_edge_litert"}
print(json.dumps({"targets": found, "imported": sorted(heavy & set(sys.modules))}))
"""


def plans(root: Path, seed: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PLAN_ALL, str(root)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_all_targets_are_listed(tmp_path: Path) -> None:
    assert tuple(target_files(tmp_path)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_target_loads_and_is_possible(name: str, tmp_path: Path) -> None:
    resolved = load_target(name, tmp_path)
    target = resolved.target
    check_possible(resolved)
    assert name == f"{target.device.name}-{target.precision}"
    assert target.description
    assert check_file(BUILT_IN / f"{name}.toml").target == target
    assert type(target).model_validate_json(target.model_dump_json()) == target
    assert resolved.origin("precision").startswith(f"{BUILT_IN / name}.toml:")


@pytest.mark.parametrize("name", DEVICES)
def test_device_is_used_and_its_facts_have_sources(name: str, tmp_path: Path) -> None:
    users = [target for item in NAMES if (target := load_target(item, tmp_path).target).device.name == name]
    assert users
    device = users[0].device
    stated = {"arch", "triple", "cpu", "isa", "cores", "ram_mb"} | ({"emulator"} if device.emulator else set())
    assert set(device.sources) == stated
    assert all(len(source.split()) > 1 for source in device.sources.values())
    assert device.triple.startswith({"x86_64": "x86_64-", "aarch64": "aarch64-", "armv7": "arm-"}[device.arch])


def test_plans_and_digests_are_the_same_in_each_process_and_need_no_framework(tmp_path: Path) -> None:
    first, second = plans(tmp_path, "1"), plans(tmp_path, "2")
    assert first == second
    assert first["imported"] == []
    targets = first["targets"]
    assert isinstance(targets, dict)
    assert tuple(targets) == NAMES
    assert len({item["digest"] for item in targets.values()}) == len(NAMES)
    assert all(item["digest"] == load_target(name, tmp_path).target.digest() for name, item in targets.items())
