"""From a sweep's JSON to docs/fashion-mnist.md and .svg: this example compared with the published table of edge_opt.

python table.py dist/table/sweep.json ../../docs
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from edgec.sweep.page import markdown_table, render_figure
from edgec.sweep.records import Point, Sweep

# edge_opt, SmallCNN 16/32 on a Raspberry Pi 4: accuracy in %, size in MB, latency in ms
PUBLISHED = {
    (0.0, "fp32"): (89.0, 2.85, 12.5),
    (0.0, "fp16"): (88.9, 1.43, 8.3),
    (0.0, "int8"): (88.4, 0.78, 4.2),
    (0.5, "fp32"): (87.2, 0.91, 4.8),
    (0.5, "fp16"): (87.1, 0.46, 3.1),
    (0.5, "int8"): (86.3, 0.24, 1.6),
}
PARAMETERS = 207_018
"""Of the example's SmallCNN."""
TEXT = """# Fashion-MNIST: pruning and precision, measured

`make -C examples/fashion_mnist table` trains the example's SmallCNN and builds {count} artifacts of it: pruned by
0, 0.3, 0.5 and 0.7 with fine-tuning on the training set, in float32, float16 and int8, with four backends. It runs
each on all {samples} test images, times it on one core in turns with the unpruned float32 artifact of its format,
and writes this page. Times are of {cpu} ({arch}), not of a board.

![accuracy over latency](fashion-mnist.svg)

## Comparison with the published table

The table of edge_opt is of a SmallCNN of the same shape on a Raspberry Pi 4. Machine and training differ, so absolute
values are hard to compare. Drops and ratios to the float32 model of the same table can be compared.

{beside}

Each entry is *drop* in points of top-1 against the unpruned float32 model · *size* · *latency*; size and latency are
shares of that model's. A drop below 0 is an improvement. The model was trained for 20 epochs, pruned models for 8
more.

## Claims that were not confirmed

{claims}

## Every artifact

{table}
"""


def of(points: tuple[Point, ...], backend: str, prune: float, precision: str) -> Point | None:
    """The point at these coordinates, if it was made."""
    found = (item for item in points if (item.backend, item.prune, item.precision) == (backend, prune, precision))
    return next(found, None)


def beside(points: tuple[Point, ...], backends: list[str]) -> Iterator[str]:
    """Rows of the comparison: drop, size and latency ratio."""
    yield f"| prune | precision | edge_opt | {' | '.join(backends)} |"
    yield f"| --- | --- | {' | '.join('---' for _ in range(len(backends) + 1))} |"
    accuracy, size, latency = PUBLISHED[0.0, "fp32"]
    for (prune, precision), (its_accuracy, its_size, its_latency) in PUBLISHED.items():
        cells = [f"{accuracy - its_accuracy:.1f} · {its_size / size:.3f} · {its_latency / latency:.2f}"]
        for backend in backends:
            whole, point = of(points, backend, 0.0, "fp32"), of(points, backend, prune, precision)
            if whole is None or point is None or point.metric is None:
                cells.append("-")
                continue
            pace = "-" if point.pace is None else f"{point.pace.ratio:.2f}"
            cells.append(f"{point.metric.drop:.2f} · {point.size_bytes / whole.size_bytes:.3f} · {pace}")
        yield f"| {prune:g} | {precision} | {' | '.join(cells)} |"


def paces(points: tuple[Point, ...], precision: str) -> Iterator[str]:
    """Latencies of the unpruned artifacts of a precision, as shares of float32's."""
    for point in points:
        if (point.prune, point.precision) == (0.0, precision) and point.pace is not None:
            yield f"{point.backend} {point.pace.ratio:.2f} ({point.pace.ratio_low:.2f} to {point.pace.ratio_high:.2f})"


def claims(points: tuple[Point, ...]) -> Iterator[str]:
    """Claims of the published table, compared with the measurements."""
    ratios = {name: PUBLISHED[0.0, name][2] / PUBLISHED[0.0, "fp32"][2] for name in ("fp16", "int8")}
    yield (
        f"- *fp16 takes {ratios['fp16']:.2f} of float32's time.* A Cortex-A72 has no fp16 arithmetic, and these "
        "runtimes use none on this CPU: they convert fp16 weights to float32 and compute in float32. Measured here: "
        f"{'; '.join(paces(points, 'fp16'))}."
    )
    yield (
        f"- *int8 takes {ratios['int8']:.2f} of float32's time.* Not in every runtime for a net this small, "
        f"whose run takes about 0.03 ms on this CPU: {'; '.join(paces(points, 'int8'))}. "
        "[Performance](performance.md) measures a larger net."
    )
    yield (
        f"- *float32 takes 2.85 MB.* That would be {2.85e6 / 4:,.0f} parameters; a SmallCNN 16/32 with a hidden layer "
        f"of 128 has {PARAMETERS:,}, which are {4 * PARAMETERS / 1e6:.2f} MB. Sizes here are those of complete files."
    )


def main() -> None:
    """Read the sweep and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    sweep = Sweep.model_validate_json(given.sweep.read_text())
    backends = list(dict.fromkeys(point.backend for point in sweep.points))
    page = TEXT.format(
        count=len(sweep.points),
        samples=f"{sweep.samples:,}",
        cpu=sweep.machine.cpu,
        arch=sweep.machine.arch,
        beside="\n".join(beside(sweep.points, backends)),
        claims="\n".join(claims(sweep.points)),
        table=markdown_table(sweep.points),
    )
    (given.out / "fashion-mnist.md").write_text(page, encoding="utf-8")
    (given.out / "fashion-mnist.svg").write_text(render_figure(sweep), encoding="utf-8")


if __name__ == "__main__":
    main()
