"""Whether ONNX Runtime loads a graph and gets through a sample with it."""

from __future__ import annotations

from pathlib import Path

from edgec.backends.onnxruntime.graph import OnnxModel, canonical_bytes, input_names, output_names
from edgec.backends.onnxruntime.session import open_session, run
from edgec.errors import UnsupportedError
from edgec.passes.contract import PassContext
from edgec.storage.temporary import private_folder


def check_runs(model: OnnxModel, ctx: PassContext) -> None:
    """Load a graph as artifacts are, and run the first calibration sample, if there are any, through it.

    Raises:
        UnsupportedError: ONNX Runtime refuses the graph, stops within it, or gives outputs of other shapes.
    """
    fed, made = input_names(model), output_names(model)
    with private_folder(ctx.work, "trial-") as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(canonical_bytes(model, shapes=False))
        session = open_session(file, threads=ctx.threads)
    if not ctx.calibration:
        return
    sample = ctx.calibration[0]
    names = [made[spec.name] for spec in model.outputs]
    outputs = run(session, names, {fed[name]: value for name, value in sample.items() if name in fed}, model.name)
    for spec, array in zip(model.outputs, outputs, strict=True):
        if array.shape != spec.shape:
            raise UnsupportedError(
                f'output "{spec.name}" has shape {array.shape} in ONNX Runtime, and {spec.shape} in the float model',
                where=model.name,
            )
