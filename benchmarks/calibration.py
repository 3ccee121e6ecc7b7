"""What calibration costs: time against plain float inference over the same samples, and peak memory.

    python -m benchmarks.calibration                              # EfficientNet-Lite0 in three backends
    EDGEC_DATA=... python -m benchmarks.calibration --subject kws # the keyword-spotting DS-CNN
    python -m benchmarks.calibration --backends onnxruntime --work DIR

Needs the `dev` extra. One thread on one core. Plain inference runs the very graph that is calibrated, with all the
fusions of its runtime, one sample at a time (a collection may take several). In each round plain inference, min-max
and histogram collection have a turn over all samples, in an order that turns; ratios are taken within a round.
Processor time is printed beside wall time: on a busy machine it is the steadier one. ``setup`` is what a collection
over one sample takes (graphs rewritten, sessions opened); the ratio *in all* has it, the ratio *a sample* has not.

Peak memory (VmHWM) is that of a child process of its own each, which holds nothing but the model and its runtime, with
samples memory-mapped. It is held against the float model's inference at batch 32 in the same runtime.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.run import SUBJECTS
from benchmarks.peers.subject import Subject, load_subject
from benchmarks.peers.timing import compare
from edgec.dataset.spool import Spool, write_index

BACKENDS = ("onnxruntime", "fbgemm", "tflite")
TIMED = {"efficientnet": 64, "kws": 256}
"""Samples that are timed; memory is measured over `COUNTS`."""
COUNTS = (64, 512)
BATCH = 32
METHODS = {"min-max": "minmax", "histogram": "mse"}
MODEL, BATCHED = "model.pickle", "batched.onnx"


def write_samples(subject: Subject, folder: Path, inputs: Any, count: int) -> Spool:
    """A spool of `count` calibration samples, which repeat when there are fewer."""
    if not (folder / "spool.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        samples = subject.calibration()
        kept = np.lib.format.open_memmap(
            folder / "0.npy", mode="w+", dtype=np.float32, shape=(count, *inputs[0].shape)
        )  # a row at a time: this process may be measured
        for index in range(count):
            kept[index] = samples[index % len(samples)][None]
        kept.flush()
        digests = [index.to_bytes(32, "little") for index in range(count)]
        write_index(
            folder, inputs, digests=digests, indices=range(count), labels=None, origin="benchmark", notes=()
        )  # fmt: skip
    return Spool(folder)


def context(samples: Spool, work: Path, backend: str) -> Any:
    """What passes are told."""
    from edgec.passes.contract import PassContext
    from edgec.target.load import load_target
    from edgec.target.spec import Emit

    return PassContext(load_target("x86-64-vnni-int8", work).target, work, samples, emit=Emit(backend=backend))


def steps(backend: str, method: str, samples: Spool, work: Path) -> tuple[Any, Any, tuple[Any, ...], Any]:
    """The backend, the context, the passes before the collection of ranges, and that pass."""
    from edgec.backends.registry import get_backend
    from edgec.quant.recipe import Recipe

    found, ctx = get_backend(backend), context(samples, work, backend)
    passes = found.passes(ctx.target, ctx.emit, Recipe(calibration=METHODS[method]))
    at = [item.name for item in passes].index("collect-ranges")
    return found, ctx, tuple(passes[:at]), passes[at]


def prepare(subject: Subject, work: Path, backend: str) -> None:
    """Lower the model up to its calibration, once for all children."""
    if (work / MODEL).exists():
        return
    import torch

    from edgec.model import store
    from edgec.model.load import load_model
    from edgec.passes.portable import portable_passes
    from edgec.passes.runner import run_passes
    from edgec.project.spec import ModelSpec

    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    spec = {"path": subject.entry, "weights": subject.weights or None, "inputs": (_input_of(subject),)}
    loaded = load_model(ModelSpec.model_validate(spec), work)
    samples = write_samples(subject, work / "few", loaded.inputs, 8)
    found, ctx, before, _ = steps(backend, "min-max", samples, work)
    plain, _ = run_passes(portable_passes(), loaded, ctx, store.fingerprint)
    model, _ = run_passes(before, found.lower(plain, ctx), ctx, found.fingerprint)
    batch = torch.from_numpy(np.array(subject.calibration()[:BATCH]))
    torch.onnx.export(
        subject.module(), (batch,), str(work / BATCHED), dynamo=False, opset_version=17, input_names=["x"]
    )
    for count in {1, *TIMED.values(), *COUNTS}:
        write_samples(subject, work / f"samples-{count}", loaded.inputs, count)
    (work / MODEL).write_bytes(pickle.dumps(model))


def _input_of(subject: Subject) -> dict[str, object]:
    name, _, shape = subject.edgec_flags[subject.edgec_flags.index("--input") + 1].partition(":")
    return {"name": name, "shape": tuple(map(int, shape.split("x")))}


def plain_inference(backend: str, model: Any, work: Path) -> Callable[[Spool], None]:
    """Run samples through the float graph, a session opened beforehand."""
    if backend == "onnxruntime":
        import onnx

        from edgec.backends.onnxruntime.graph import input_names
        from edgec.backends.onnxruntime.session import open_session

        onnx.save(model.proto, str(work / "plain.onnx"))
        session, fed = open_session(work / "plain.onnx", threads=1), input_names(model)

        def run(samples: Spool) -> None:
            for sample in samples:
                session.run(None, {fed[name]: value for name, value in sample.items()})
    elif backend == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        from edgec.backends.tflite.layout import to_artifact

        interpreter: Any = Interpreter(model_content=model.content, num_threads=1)
        interpreter.allocate_tensors()
        into = {item["name"]: item["index"] for item in interpreter.get_input_details()}
        out = [item["index"] for item in interpreter.get_output_details()]

        def run(samples: Spool) -> None:
            for sample in samples:
                for item in model.inputs:
                    value = to_artifact(sample[item.name], item.permutation)
                    interpreter.set_tensor(into[item.artifact_name], value)
                interpreter.invoke()
                for index in out:
                    interpreter.get_tensor(index)
    else:
        import torch
        from torch.fx.experimental.optimization import fuse

        from edgec.backends.torch_quant.collect import call_arguments

        graph = fuse(model.graph)  # as eager torch runs fastest: BatchNorm in the convolutions

        def run(samples: Spool) -> None:
            torch.set_num_threads(1)
            with torch.inference_mode():
                for sample in samples:
                    graph(*call_arguments(model, sample))

    return run


def collection(backend: str, method: str, model: Any, work: Path) -> Callable[[Spool], None]:
    """Collect ranges as a build does."""

    def run(samples: Spool) -> None:
        _, ctx, _, collect = steps(backend, method, samples, work)
        collect.run(model, ctx)

    return run


def times(subject: str, backend: str, work: Path, rounds: int) -> list[str]:
    """Rows of the table of times."""
    model = pickle.loads((work / MODEL).read_bytes())
    one, many = Spool(work / "samples-1"), Spool(work / f"samples-{TIMED[subject]}")
    calls = {"float": plain_inference(backend, model, work)}
    calls |= {method: collection(backend, method, model, work) for method in METHODS}
    names = list(calls)
    wall: dict[tuple[str, int], list[float]] = {(name, size): [] for name in names for size in (1, len(many))}
    cpu: dict[tuple[str, int], list[float]] = {key: [] for key in wall}
    for call in calls.values():
        call(one)
    gc.collect()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            for samples in (one, many):
                began = time.perf_counter(), time.process_time()
                calls[name](samples)
                wall[name, len(samples)].append(time.perf_counter() - began[0])
                cpu[name, len(samples)].append(time.process_time() - began[1])
    rows = []
    for name in names[1:]:
        cells = [backend, name, f"{1e3 * np.median(cpu['float', len(many)]) / len(many):.3f}"]
        cells.append(f"{1e3 * np.median(cpu[name, 1]):.0f}")
        for taken in (cpu, wall):
            whole, plain = np.array(taken[name, len(many)]), np.array(taken["float", len(many)])
            lone = plain - np.array(taken["float", 1])
            ratios = compare(whole, plain), compare(whole - np.array(taken[name, 1]), lone)
            cells += [f"{ratio.median:.2f} ({ratio.p10:.2f}-{ratio.p90:.2f})" for ratio in ratios]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def batched_inference(subject: Subject, backend: str, work: Path) -> None:
    """The float model at batch 32 in the backend's runtime, a few times."""
    batch = np.array(subject.calibration()[:BATCH])
    if backend == "onnxruntime":
        from edgec.backends.onnxruntime.session import open_session

        session = open_session(work / BATCHED, threads=1)
        for _ in range(2):
            session.run(None, {"x": batch})
    elif backend == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        model = pickle.loads((work / MODEL).read_bytes())
        interpreter: Any = Interpreter(model_content=model.content, num_threads=1)
        detail = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(detail["index"], [BATCH, *detail["shape"][1:]])
        interpreter.allocate_tensors()
        order = model.inputs[0].permutation
        interpreter.set_tensor(detail["index"], batch.transpose(order) if order else batch)
        for _ in range(2):
            interpreter.invoke()
    else:
        import torch

        torch.set_num_threads(1)
        module = subject.module()
        with torch.inference_mode():
            for _ in range(2):
                module(torch.from_numpy(batch))


def child(arguments: Sequence[str]) -> None:
    """Do one thing and print this process's peak resident memory in KiB."""
    folder, backend, what, count = arguments
    subject, work = load_subject(folder), Path(folder).parent / backend
    if what == "prepare":
        prepare(subject, work, backend)
    elif what == "times":
        print(*times(Path(folder).parent.name, backend, work, int(count)), sep="\n")
    elif what == "float":
        batched_inference(subject, backend, work)
    else:
        model = pickle.loads((work / MODEL).read_bytes())
        collection(backend, what, model, work)(Spool(work / f"samples-{count}"))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(peak.split()[1])


def spawn(*arguments: object, core: int) -> list[str]:
    """What a child process prints, by line; the last is its peak memory in KiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.calibration", "--child"]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr[-3000:]}")
    return done.stdout.splitlines()


def memory(folder: Path, backend: str, core: int) -> list[str]:
    """Rows of the table of memory."""
    base = int(spawn(folder, backend, "float", 0, core=core)[-1]) / 1024
    rows = []
    for method in METHODS:
        peaks = [int(spawn(folder, backend, method, count, core=core)[-1]) / 1024 for count in COUNTS]
        cells = [backend, method, f"{base:.0f}", *(f"{peak:.0f} ({peak / base:.2f})" for peak in peaks)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Lower what is missing, measure, print."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, default="efficientnet")
    parser.add_argument("--work", type=Path, help="folder to build in and keep (default: a temporary one)")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to be pinned to")
    parser.add_argument("--only", choices=("times", "memory"))
    given = parser.parse_args()
    backends = [name for name in BACKENDS if name in given.backends.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.work or Path(temporary)).absolute() / given.subject / "subject"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "subject.json").exists():
            SUBJECTS[given.subject](folder).save()
        for backend in backends:
            spawn(folder, backend, "prepare", 0, core=given.core)
        if given.only != "memory":
            print(
                f"{load_subject(str(folder)).name}, {TIMED[given.subject]} samples, {given.rounds} rounds; p10-p90.\n"
            )
            print("| backend | method | float ms a sample | setup ms | processor time: in all | a sample ", end="")
            print("| wall time: in all | a sample |\n|---|---|---|---|---|---|---|---|")
            for backend in backends:
                print(*spawn(folder, backend, "times", given.rounds, core=given.core)[:-1], sep="\n", flush=True)
        if given.only != "times":
            print(f"\n| backend | method | float, batch {BATCH}: peak MB ", end="")
            print("".join(f"| {count} samples: MB (ratio) " for count in COUNTS) + "|\n|---|---|---|---|---|")
            for backend in backends:
                print(*memory(folder, backend, given.core), sep="\n", flush=True)


if __name__ == "__main__":
    main()
