"""Every backend in the registry keeps the protocol, and describing what it can do imports no framework."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from edgec.backends.interface import Backend, Capability, Format, Package, RuntimeSpec
from edgec.backends.registry import BUILT_IN, backend_names, get_backend
from edgec.passes.contract import Pass, options_of
from edgec.quant.recipe import Recipe
from edgec.target.files import BUILT_IN as TARGETS
from edgec.target.load import load_target
from edgec.target.spec import Emit, Precision, Target

FOLDERS = Path(__file__).parents[2] / "backends"
HEAVY = ("torch", "tensorflow", "onnx", "onnxruntime", "onnx2tf", "tflite_runtime", "ai_edge_litert", "torch_pruning")
MODULES = ("edgec", "edgec.cli.targets", "edgec.cli.main", "edgec.plan.plan", *BUILT_IN.values())

IMPORT_ALONE = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Target, ...]:
    root = tmp_path_factory.mktemp("project")
    return tuple(load_target(file.stem, root).target for file in sorted(TARGETS.glob("*.toml")))


def test_every_folder_with_a_backend_is_registered() -> None:
    found = {f"edgec.backends.{file.parent.name}.backend" for file in FOLDERS.glob("*/backend.py")}
    assert found == set(BUILT_IN.values())


@pytest.mark.parametrize("module", MODULES)
def test_importing_is_cheap(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALONE, module, *HEAVY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", backend_names())
def test_attributes(name: str) -> None:
    backend = get_backend(name)
    assert backend.name == name
    assert isinstance(backend.format, Format)
    assert backend.artifact_file(Emit(backend=name)).endswith(backend.format.suffix)
    assert isinstance(backend.needs_graph, bool)
    assert isinstance(backend.extra, str)
    assert isinstance(backend.own_quantizer, str)
    assert backend.precisions
    assert set(backend.precisions) <= set(get_args(Precision))
    assert all(isinstance(package, Package) for package in backend.packages)
    assert "run" in {package.purpose for package in backend.packages}
    wanted = {item for item in vars(Backend) if not item.startswith("_")} | set(Backend.__annotations__)
    assert [item for item in sorted(wanted) if not hasattr(backend, item)] == []


@pytest.mark.parametrize("name", backend_names())
def test_capability_rows(name: str, targets: tuple[Target, ...]) -> None:
    backend = get_backend(name)
    for target in targets:
        rows = backend.capability(target)
        assert rows
        assert all(isinstance(row, Capability) for row in rows)
        ops = [row.op for row in rows]
        assert len(ops) == len(set(ops)), "an op stands twice"
        integer = [row for row in rows if row.static_int8 or row.dynamic_int8]
        assert [row.op for row in integer if row.op.endswith(("conv2d", "linear")) and not row.weights] == []
        assert {"conv2d", "depthwise-conv2d", "linear"} <= set(ops)


@pytest.mark.parametrize("name", backend_names())
def test_each_target_is_possible_or_told_why_not(name: str, targets: tuple[Target, ...]) -> None:
    backend = get_backend(name)
    verdicts = [list(backend.reasons_against(target, Emit(backend=name))) for target in targets]
    assert [] in verdicts
    assert all(isinstance(reason, str) and reason for reasons in verdicts for reason in reasons)


@pytest.mark.parametrize("name", backend_names())
def test_passes_and_runtimes_of_each_possible_target(name: str, targets: tuple[Target, ...]) -> None:
    backend = get_backend(name)
    emit = Emit(backend=name)
    for target in targets:
        if backend.reasons_against(target, emit):
            continue
        passes = backend.passes(target, emit, Recipe())
        assert passes == backend.passes(target, emit, Recipe()), "passes are values"
        assert all(isinstance(step, Pass) for step in passes)
        assert len(set(passes)) == len({step.name for step in passes}) == len(passes)
        assert all(set(options_of(step)) == {field.name for field in fields(step)} for step in passes)
        runtimes = backend.runtimes(target, emit)
        assert all(isinstance(runtime, RuntimeSpec) for runtime in runtimes)
        assert any(runtime.judged for runtime in runtimes), "nothing would be verified"
        assert {runtime.distribution for runtime in runtimes} <= {package.distribution for package in backend.packages}


def test_artifact_files_are_distinct() -> None:
    files = [get_backend(name).artifact_file(Emit(backend=name)) for name in backend_names()]
    assert len(files) == len({file.lower() for file in files})
    assert all(file == Path(file).name and file.isascii() and " " not in file for file in files)
