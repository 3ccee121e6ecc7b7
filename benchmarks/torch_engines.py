"""How fast torch's x86 engines run the same int8 models: the order in which the fbgemm backend prefers them.

    python benchmarks/torch_engines.py examples/digits [more project folders]

Each project is quantized once per engine; their batch-1 times are taken in turn within one loop, so that what else
the machine does falls on all alike. Printed: median time of each engine relative to the first, with the quartiles of
the ratios of the rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgec.backends.torch_quant.collect import CollectRanges, call_arguments
from edgec.backends.torch_quant.emit import script
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.lower import lower
from edgec.backends.torch_quant.model import fingerprint
from edgec.backends.torch_quant.passes import EmbedPadding
from edgec.backends.torch_quant.quantize import QuantizeStatic
from edgec.dataset.write import write_spool
from edgec.model import store
from edgec.model.load import load_model
from edgec.passes.contract import PassContext
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes
from edgec.project.load import load_project
from edgec.target.load import load_target

ENGINES = ("fbgemm", "x86", "onednn")
ROUNDS, CALLS = 60, 20


def measure(folder: Path) -> None:
    """Quantize the project in `folder` for each engine and print their relative times."""
    project, target = load_project(folder, {}), load_target("x86-64-vnni-int8", folder).target
    with tempfile.TemporaryDirectory() as work:
        loaded = load_model(project.model, folder)
        assert project.calibration is not None
        samples = write_spool(
            project.calibration, project.preprocess, loaded.inputs, Path(work, "samples"), folder,
            samples=64, seed=0, what="calibration",
        )  # fmt: skip
        context = PassContext(target, Path(work), samples)
        plain, _ = run_passes(portable_passes(), loaded, context, store.fingerprint)
        made = {}
        for engine in ENGINES:
            steps = (EmbedPadding(), CollectRanges(), QuantizeStatic(engines=(engine,)))
            model, _ = run_passes(steps, lower(plain, engine), context, fingerprint)
            with running(engine, 1):
                made[engine] = script(replace(model, engine=engine))
        feed = call_arguments(model, samples[0])
        times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(ROUNDS):
            for engine, graph in made.items():
                with running(engine, 1), torch.inference_mode():
                    graph(*feed)
                    began = time.perf_counter()
                    for _ in range(CALLS):
                        graph(*feed)
                    times[engine].append(1e3 * (time.perf_counter() - began) / CALLS)
    base = np.array(times[ENGINES[0]][5:])
    for engine in ENGINES:
        own = np.array(times[engine][5:])
        low, middle, high = np.percentile(own / base, [25, 50, 75])
        print(f"{folder.name:16} {engine:8} {np.median(own):8.3f} ms  {middle:5.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    for name in sys.argv[1:] or ["examples/digits"]:
        measure(Path(name))
