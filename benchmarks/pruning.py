"""How fast pruned int8 is against float32 in the same runtime, on EfficientNet-Lite0 (0.385 GMAC).

    python -m benchmarks.pruning                    # prune 0, 0.3, 0.5 and 0.7 in float32 and int8, three backends
    python -m benchmarks.pruning --work DIR         # keeps what it builds: a second run reads what it found
    python -m benchmarks.pruning --subject kws      # EDGEC_DATA=...: the keyword-spotting DS-CNN, which is small

It needs the `dev` extra. Nothing is trained after pruning: only times and sizes mean something. They are those of
`edgec sweep`: one thread, pinned to one core, each artifact in turns with the unpruned float32 artifact of its format.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.run import SUBJECTS
from benchmarks.peers.subject import load_subject

AMOUNTS = "0,0.3,0.5,0.7"
TARGET = 'extends = "x86-64-vnni-int8"\n\n[prune]\nwithout_training = true\n'


def main() -> None:
    """Sweep and leave the table to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, default="efficientnet")
    parser.add_argument("--work", type=Path, help="folder to build in and keep (default: a temporary one)")
    parser.add_argument("--prune", default=AMOUNTS, help=f"shares of channels (default: {AMOUNTS})")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.work or Path(temporary)).absolute() / given.subject
        (folder / "targets").mkdir(parents=True, exist_ok=True)
        if not (folder / "subject.json").exists():
            SUBJECTS[given.subject](folder).save()
        subject = load_subject(str(folder))
        (folder / "targets" / "untrained-int8.toml").write_text(TARGET)
        subprocess.run(
            [
                Path(sys.executable).with_name("edgec"), "sweep", subject.entry, "--target", "untrained-int8",
                "--prune", given.prune, "--precision", "fp32,int8", "--effort", "fast", "--metric", "sqnr",
                "--calibration", subject.calibration_data, "--evaluate", subject.held_out_data,
                *subject.edgec_flags,
            ],
            cwd=folder,
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
