"""Which runtime gains from zeros among the weights: MobileNetV2's shapes, float32 and int8, batch 1, one thread.

    python -m benchmarks.sparsity                 # builds the files (4 minutes), then measures
    python -m benchmarks.sparsity --work DIR      # keeps them: a second run only measures, on another machine too

Needs the `dev` extra. Weights are random, for only time and size are measured; the zeros are the smallest weights of
each 1x1 convolution, chosen by `edgec.prune.zeros`. Within one runtime all files have a turn in each round, in an order
that turns; ratios are dense over sparse of the same round: above 1 is a gain.

``encoded`` are files that TensorFlow's converter wrote with EXPERIMENTAL_SPARSITY: compressed rows, for XNNPACK's
sparse kernels. Those are for float32 1x1 convolutions with two thirds zeros or more, between a 3x3 convolution of
stride 2 with symmetric padding and a global pooling (so the net here pads symmetrically). On x86 with AVX they are
never used: XNNPACK holds its dense ones to be faster there (`xnn_is_chw_compatible_config`), and unpacks the zeros.

``CSR matrices`` are 1x1 convolutions as `torch.sparse` products in eager mode, held against the dense TorchScript.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.timing import compare, interleave

BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats, stride (Sandler et al. 2018, table 2)."""
SIZE = 224
ZEROS = {"dense": 0.0, "50 %": 0.5, "75 %": 0.75, "90 %": 0.9, "2:4": 0.5}
ROUNDS, CALLS = 40, 5


def convolutions() -> list[tuple[str, int, int, int, int, int, bool]]:
    """The net as a table: name, inputs, outputs, kernel, stride, groups, whether ReLU6 follows."""
    rows = [("stem", 3, 32, 3, 2, 1, True)]
    before, number = 32, 0
    for expansion, channels, repeats, stride in BLOCKS:
        for repeat in range(repeats):
            wide = before * expansion
            if expansion > 1:
                rows.append((f"expand{number}", before, wide, 1, 1, 1, True))
            rows.append((f"depth{number}", wide, wide, 3, stride if repeat == 0 else 1, wide, True))
            rows.append((f"project{number}", wide, channels, 1, 1, 1, False))
            before, number = channels, number + 1
    return [*rows, ("last", before, 1280, 1, 1, 1, True)]


def run(call: Callable[..., Any], x: Any, add: Callable[[Any, Any], Any]) -> Any:
    """The net on `x`: `call` runs the convolution of a row."""
    block = x
    for row in convolutions():
        name, inputs = row[0], row[1]
        if name.startswith("expand") or name == "depth0":
            block, width = x, inputs
        x = call(row, x)
        if name.startswith("project") and name != "project0" and width == row[2]:
            x = add(x, block)
    return x


def torch_net() -> Any:
    """The net as a torch module with random weights."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleDict()
            for name, inputs, outputs, kernel, stride, groups, _ in convolutions():
                self.convs[name] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
                nn.init.kaiming_normal_(self.convs[name].weight)
            self.act, self.head = nn.ReLU6(), nn.Linear(1280, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = run(lambda row, x: self.act(self.convs[row[0]](x)) if row[6] else self.convs[row[0]](x), x, torch.add)
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    return Net().eval()


def silenced(zeros: str) -> Any:
    """The net with zeros in its 1x1 convolutions."""
    import torch

    from edgec.model.trace import trace
    from edgec.prune.zeros import apply_masks, choose_masks

    net = torch_net()
    graph = trace(net, (torch.zeros(1, 3, SIZE, SIZE),)).graph
    assert graph is not None
    masks = choose_masks(graph, ZEROS[zeros], "2:4" if zeros == "2:4" else "unstructured")
    apply_masks(graph, {name: mask for name, mask in masks.items() if mask.shape[2:] == (1, 1)})
    return graph


def build(work: Path) -> None:
    """All files, unless they are there."""
    import torch

    for zeros in ZEROS:
        if (work / f"{zeros}.npz").exists():
            continue
        graph, example = silenced(zeros), torch.zeros(1, 3, SIZE, SIZE)
        with torch.no_grad():
            torch.jit.freeze(torch.jit.trace(graph, example)).save(str(work / f"{zeros}.pt"))
        torch.onnx.export(graph, (example,), work / f"{zeros}.onnx", opset_version=17, dynamo=False)
        np.savez(work / f"{zeros}.npz", **{name: value.numpy() for name, value in graph.state_dict().items()})
    if not (work / "done").exists():
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "benchmarks.sparsity", "--convert", str(work)]
        with (work / "convert.log").open("w") as log:
            subprocess.run(command, check=True, env=quiet, stdout=log, stderr=subprocess.STDOUT)
        (work / "done").touch()


def convert(work: Path) -> None:
    """The LiteRT files: each net as it is and encoded, in float32 and int8."""
    import tensorflow as tf

    layers = tf.keras.layers

    def keras_conv(row: Any, x: Any) -> Any:
        name, _, outputs, kernel, stride, groups, active = row
        if kernel > 1:
            x = layers.ZeroPadding2D(1)(x)  # symmetric, which "same" with a stride is not
        if groups > 1:
            x = layers.DepthwiseConv2D(kernel, stride, name=name)(x)
        else:
            x = layers.Conv2D(outputs, kernel, stride, name=name)(x)
        return layers.ReLU(6.0)(x) if active else x

    entry = tf.keras.Input((SIZE, SIZE, 3), batch_size=1)
    last = layers.GlobalAveragePooling2D()(run(keras_conv, entry, lambda x, y: layers.Add()([x, y])))
    net = tf.keras.Model(entry, layers.Dense(1000, name="head")(last))
    source = np.random.default_rng(0)
    samples = [source.standard_normal((1, SIZE, SIZE, 3)).astype(np.float32) for _ in range(4)]
    for zeros in ZEROS:
        values = np.load(work / f"{zeros}.npz")
        net.get_layer("head").set_weights([values["head.weight"].T, values["head.bias"]])
        for row in convolutions():
            weight, bias = values[f"convs.{row[0]}.weight"], values[f"convs.{row[0]}.bias"]
            order = (2, 3, 0, 1) if row[5] > 1 else (2, 3, 1, 0)
            net.get_layer(row[0]).set_weights([weight.transpose(order), bias])
        for precision in ("float32", "int8"):
            for encoded in (False, True) if ZEROS[zeros] else (False,):
                converter = tf.lite.TFLiteConverter.from_keras_model(net)
                optimizations = [tf.lite.Optimize.DEFAULT] if precision == "int8" else []
                if precision == "int8":
                    converter.representative_dataset = lambda: ([sample] for sample in samples)
                converter.optimizations = optimizations + [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] * encoded
                suffix = " encoded" if encoded else ""
                (work / f"{zeros} {precision}{suffix}.tflite").write_bytes(converter.convert())


def torch_call(path: Path) -> Callable[[], object]:
    """One inference of a TorchScript file."""
    import torch

    net, x = torch.jit.load(str(path)), torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def call() -> object:
        with torch.inference_mode():
            return net(x)

    return call


def csr_call(zeros: str) -> Callable[[], object]:
    """One inference with 1x1 convolutions as products of sparse matrices."""
    import torch
    from torch import nn

    class Sparse(nn.Module):
        def __init__(self, conv: nn.Conv2d) -> None:
            super().__init__()
            self.matrix, self.bias = conv.weight.detach()[:, :, 0, 0].to_sparse_csr(), conv.bias.detach()[:, None]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.add(self.matrix @ x.flatten(2)[0], self.bias).reshape(1, -1, *x.shape[2:])

    graph = silenced(zeros)
    for name, _, _, kernel, *_ in convolutions():
        if kernel == 1:
            graph.set_submodule(f"convs.{name}", Sparse(graph.get_submodule(f"convs.{name}")))
    x = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def call() -> object:
        with torch.inference_mode():
            return graph(x)

    return call


def onnx_call(path: Path) -> Callable[[], object]:
    """One inference in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE), np.float32)}
    return lambda: session.run(None, feed)


def litert_call(path: Path) -> Callable[[], object]:
    """One inference in LiteRT with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    sample = np.random.default_rng(0).standard_normal((1, SIZE, SIZE, 3), np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    return interpreter.invoke


def main() -> None:
    """Build, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder of the files, kept")
    parser.add_argument("--convert", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    if given.convert:
        convert(given.convert)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        build(work)
        measure(work, given.rounds)


def measure(work: Path, rounds: int) -> None:
    """Time the files of each runtime in turn and print the rows of the table."""
    import torch

    torch.set_num_threads(1)
    runtimes: dict[str, dict[str, tuple[Path, Callable[[], object]]]] = {
        "ONNX Runtime float32": {zeros: (path := work / f"{zeros}.onnx", onnx_call(path)) for zeros in ZEROS},
        "TorchScript float32": {zeros: (path := work / f"{zeros}.pt", torch_call(path)) for zeros in ZEROS},
    }
    for zeros in list(ZEROS)[1:]:
        runtimes["TorchScript float32"][f"{zeros}, CSR matrices"] = (work / "none", csr_call(zeros))
    for precision in ("float32", "int8"):
        files = [work / f"{zeros} {precision}.tflite" for zeros in ZEROS]
        files += [work / f"{zeros} {precision} encoded.tflite" for zeros in list(ZEROS)[1:]]
        named = {path.stem.replace(f" {precision}", "").replace(" encoded", ", encoded"): path for path in files}
        runtimes[f"LiteRT {precision}"] = {name: (path, litert_call(path)) for name, path in named.items()}
    print(f"{platform.machine()}, {rounds} rounds of {CALLS} calls\n")
    print(
        "| runtime | zeros | dense / this (95 %) | rounds p10 to p90 | file MB | gzip MB |\n|---|---|---|---|---|---|"
    )
    for runtime, calls in runtimes.items():
        times = interleave({name: (lambda: None, call) for name, (_, call) in calls.items()}, rounds, CALLS)
        for name, (path, _) in calls.items():
            ratio = compare(times["dense"], times[name])
            data = path.read_bytes() if path.exists() else b""
            sizes = f"{len(data) / 1e6:.2f} | {len(gzip.compress(data)) / 1e6:.2f}" if data else "- | -"
            what = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
            if name == "dense":
                what = f"1 ({np.median(times[name]):.2f} ms)"
            print(f"| {runtime} | {name} | {what} | {ratio.p10:.2f} to {ratio.p90:.2f} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
