"""edgec starts quickly and works without most frameworks: they are imported where they are used, inside functions.

Only the modules in `FRAMEWORK_MODULES` import one at their top; every other module imports these inside functions.
"""

from __future__ import annotations

import fnmatch
import json
import pkgutil
import subprocess
import sys

import edgec

FRAMEWORKS = ("torch", "torch_pruning", "onnx", "onnxruntime", "tensorflow", "onnx2tf", "ai_edge_litert")
FRAMEWORK_MODULES = (
    *(f"edgec.backends.torch_quant.{name}" for name in ("batches", "dynamic_linear", "float_call", "half")),
    *(f"edgec.backends.torch_quant.{name}" for name in ("pair_observer", "range_observer")),
    *(f"edgec.model.{name}" for name in ("cells", "from_onnx", "onnx_torch.*", "plain", "plain_ops")),
    *(f"edgec.model.{name}" for name in ("static_tracer", "weights", "wrappers")),
    *(f"edgec.passes.{name}" for name in ("equalization_pairs", "rounding_optimizer", "rounding_statistics")),
    *(f"edgec.passes.{name}" for name in ("smoothing_groups", "weight_simulation")),
    *(f"edgec.prune.{name}" for name in ("account", "cost", "dependencies", "finetune", "importance")),
    *(f"edgec.prune.{name}" for name in ("same_function", "structured", "whole", "zeros")),
    *(f"edgec.train.{name}" for name in ("fake_quantize", "fit", "loop", "losses", "prepare", "samples")),
)
_IMPORT_EACH = """
import importlib, json, sys
frameworks, modules = json.loads(sys.argv[1])
for name in modules:
    importlib.import_module(name)
    if imported := sorted(set(frameworks) & set(sys.modules)):
        sys.exit(f"{name} imports {', '.join(imported)} at its top")
"""


def test_frameworks_are_imported_inside_functions() -> None:
    modules = [item.name for item in pkgutil.walk_packages(edgec.__path__, "edgec.")]
    stale = [name for name in FRAMEWORK_MODULES if not fnmatch.filter(modules, name)]
    assert not stale
    others = [name for name in modules if not any(fnmatch.fnmatch(name, item) for item in FRAMEWORK_MODULES)]
    command = [sys.executable, "-c", _IMPORT_EACH, json.dumps([FRAMEWORKS, others])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
