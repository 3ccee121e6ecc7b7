"""edgec against the best stock flow of each runtime, on EfficientNet-Lite0: one thread, one core, interleaved.

    python -m benchmarks.peers.run                                   # builds everything (5 minutes), then measures
    python -m benchmarks.peers.run --work DIR                        # keeps what it builds; a second run only measures
    EDGEC_DATA=... python -m benchmarks.peers.run --subject kws      # the keyword-spotting DS-CNN instead

Needs the `dev` extra. Prints a Markdown table. All files take and give float32, so both sides convert. Every artifact
is called through its runtime's own Python interface. In each round every artifact has a turn, in an order that turns;
ratios are taken within a round. Each peer's file is also loaded a second time: its ratio to itself is the noise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.children import ROOT, Cost, run
from benchmarks.peers.contestants import load
from benchmarks.peers.subject import CALIBRATION, HELD_OUT, Subject, load_subject
from benchmarks.peers.timing import Ratio, compare, interleave

COSTS = "costs.json"
SAMPLES = 256
_EDGEC = "import sys; from edgec.cli.main import main; sys.argv[0] = 'edgec'; main()"


@dataclass(frozen=True)
class Pair:
    """One backend of edgec and the flow it is held against."""

    backend: str
    runtime: str
    flow: str
    file: str
    engine: str = ""


PAIRS = (
    Pair("onnxruntime", "onnxruntime", "onnxruntime_flow", "model.onnx"),
    Pair("tflite", "ai-edge-litert", "tflite_flow", "model.tflite"),
    Pair("fbgemm", "torch", "torch_flow", "model.pt", "onednn"),
)


@dataclass(frozen=True)
class Side:
    """One file, and what making it took."""

    file: Path
    engine: str
    cost: Cost


def efficientnet(folder: Path) -> Subject:
    """EfficientNet-Lite0 on the photos of the tests."""
    source = ROOT / "tests" / "data"
    spec = importlib.util.spec_from_file_location("photos", source / "photos.py")
    assert spec is not None
    assert spec.loader is not None
    photos = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(photos)
    files = photos.write_photos(folder, SAMPLES)
    for file, name in zip(files, (CALIBRATION, HELD_OUT), strict=True):
        np.save(folder / name, photos.to_input(np.load(file)["images"]))
    shutil.copy(source / "efficientnet_lite0.py", folder)
    flags = ["--input", "image:1x3x224x224", "--mean", str(photos.MEAN), "--std", str(photos.STD)]
    return Subject(
        "EfficientNet-Lite0", str(folder / "efficientnet_lite0.py:load"), str(folder),
        calibration_data=str(files[0]), held_out_data=str(files[1]), edgec_flags=flags,
    )  # fmt: skip


def kws(folder: Path) -> Subject:
    """MLPerf Tiny's keyword-spotting DS-CNN, trained in torch."""
    source = Path(os.environ["EDGEC_DATA"]).absolute() / "mlperf-tiny-kws"
    files = source / "kws_calibration_200.npz", source / "kws_eval_400.npz"
    for file, name in zip(files, (CALIBRATION, HELD_OUT), strict=True):
        samples = np.load(file)["x"].astype(np.float32)
        np.save(folder / name, samples.reshape(len(samples), 1, 49, 10))
    for name in ("ds_cnn.py", "kws_dscnn.pt"):
        shutil.copyfile(source / name, folder / name)
    flags = ["--input", "mfcc:1x1x49x10", "--calibration-array", "mfcc=x", "--evaluate-array", "mfcc=x"]
    return Subject(
        "KWS DS-CNN", str(folder / "ds_cnn.py:DSCNN"), str(folder), str(folder / "kws_dscnn.pt"),
        str(files[0]), str(files[1]), [*flags, "--weights", str(folder / "kws_dscnn.pt")],
    )  # fmt: skip


SUBJECTS = {"efficientnet": efficientnet, "kws": kws}


def build_ours(pair: Pair, subject: Subject, work: Path, core: int) -> Side:
    """`edgec build` with default options, of a target with this one backend."""
    project = work / "edgec" / pair.backend
    (project / "targets").mkdir(parents=True, exist_ok=True)
    emit = f'device = "x86-64-vnni"\nprecision = "int8"\n\n[[emit]]\nbackend = "{pair.backend}"\n'
    (project / "targets" / "peer.toml").write_text('description = "one backend of x86-64-vnni-int8"\n' + emit)
    bundle = project / "dist" / "peer"
    if not (project / COSTS).exists():
        arguments = [
            "-c",
            _EDGEC,
            "build",
            subject.entry,
            "--target",
            "peer",
            "--calibration",
            subject.calibration_data,
        ]
        arguments += ["--evaluate", subject.held_out_data, "--metric", "agreement", "--min-agreement", "0"]
        cost = run([*arguments, *subject.edgec_flags], project, work / f"edgec-{pair.backend}.log", core)
        (project / COSTS).write_text(json.dumps(asdict(cost)))
    artifact = json.loads((bundle / "manifest.json").read_text())["artifacts"][0]["artifact"]
    return Side(bundle / artifact["file"], artifact["engine"] or "", _cost(project))


def build_peer(pair: Pair, subject: Subject, work: Path, core: int) -> Side:
    """The stock flow."""
    out = work / "peers" / pair.flow
    out.mkdir(parents=True, exist_ok=True)
    if not (out / COSTS).exists():
        arguments = ["-m", f"benchmarks.peers.{pair.flow}", subject.folder, str(out)]
        cost = run(arguments, ROOT, work / f"{pair.flow}.log", core)
        (out / COSTS).write_text(json.dumps(asdict(cost)))
    return Side(out / pair.file, pair.engine, _cost(out))


def _cost(folder: Path) -> Cost:
    return Cost(**json.loads((folder / COSTS).read_text()))


def float_outputs(subject: Subject) -> Any:
    """The float model's first output on the held-out samples."""
    import torch

    model, samples = subject.module(), subject.held_out()
    with torch.inference_mode():
        parts = [model(torch.from_numpy(samples[k : k + 16].copy())).numpy() for k in range(0, len(samples), 16)]
    return np.concatenate(parts)


def fidelity(wanted: Any, given: Any) -> str:
    """Top-1 agreement in percent, and SQNR in dB."""
    same = (wanted.argmax(-1) == given.argmax(-1)).mean()
    noise = np.square(wanted.astype(np.float64) - given).sum()
    return f"{100 * same:.1f} % · {10 * np.log10(np.square(wanted.astype(np.float64)).sum() / noise):.1f} dB"


def measure(subject: Subject, sides: dict[str, tuple[str, Side]], rounds: int, calls: int) -> tuple[Any, Any]:
    """Outputs on the held-out samples, and times, of every side: name -> (runtime, side)."""
    import torch

    torch.set_num_threads(1)
    samples = np.array(subject.held_out())
    wanted, outputs, contestants = float_outputs(subject), {}, {}
    for name, (runtime, side) in sides.items():
        prepare, make = load(runtime, side.file, side.engine, samples[:1])
        prepare()
        if not name.endswith("again"):
            outputs[name] = fidelity(wanted, np.concatenate([make(samples[k : k + 1])() for k in range(len(samples))]))
        contestants[name] = (prepare, make(samples[:1]))
    return outputs, interleave(contestants, rounds, calls)


def table(pairs: Sequence[Pair], sides: dict[str, tuple[str, Side]], outputs: Any, times: Any) -> str:
    """The Markdown table."""
    lines = [
        "| runtime | edgec ms | peer ms | ratio (95 % of median) | p10-p90 | peer to itself | edgec | peer "
        "| KiB edgec / peer | build s | build peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        ours, peer, again = (f"{pair.backend} {kind}" for kind in ("ours", "peer", "again"))
        ratio, noise = compare(times[ours], times[peer]), compare(times[again], times[peer])
        left, right = sides[ours][1], sides[peer][1]
        cells = [
            f"{pair.runtime} {version(pair.runtime)}" + (f" ({left.engine} / {right.engine})" if left.engine else ""),
            f"{np.median(times[ours]):.3f}", f"{np.median(times[peer]):.3f}",
            _told(ratio), f"{ratio.p10:.3f}-{ratio.p90:.3f}", _told(noise), outputs[ours], outputs[peer],
            f"{left.file.stat().st_size / 1024:.0f} / {right.file.stat().st_size / 1024:.0f}",
            f"{left.cost.seconds:.0f} / {right.cost.seconds:.0f}",
            f"{left.cost.peak_mb:.0f} / {right.cost.peak_mb:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    cpu = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{cpu}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def main() -> None:
    """Build what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, default="efficientnet")
    parser.add_argument("--work", type=Path, help="folder to build in and keep (default: a temporary one)")
    parser.add_argument("--backends", default=",".join(item.backend for item in PAIRS))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=10, help="timed calls in a turn")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to be pinned to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).absolute() / given.subject
        (work / "subject").mkdir(parents=True, exist_ok=True)
        note = work / "subject" / "subject.json"
        if not note.exists():
            SUBJECTS[given.subject](work / "subject").save()
        subject = load_subject(str(note.parent))
        pairs = [item for item in PAIRS if item.backend in given.backends.split(",")]
        sides: dict[str, tuple[str, Side]] = {}
        for pair in pairs:
            sides[f"{pair.backend} ours"] = (pair.runtime, build_ours(pair, subject, work, given.core))
            peer = (pair.runtime, build_peer(pair, subject, work, given.core))
            sides[f"{pair.backend} peer"] = sides[f"{pair.backend} again"] = peer
        os.sched_setaffinity(0, {given.core})
        outputs, times = measure(subject, sides, given.rounds, given.calls)
        print(f"{subject.name}, {len(subject.held_out())} held-out samples. {_machine()}; one thread on one core.")
        print(f"{given.rounds} rounds of {given.calls} calls.\n")
        print(table(pairs, sides, outputs, times))


if __name__ == "__main__":
    main()
