"""The artifact: one file of NumPy arrays, with the layers' records among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgec.backends.example.model import ExampleModel
from edgec.backends.example.run_npz import LAYERS
from edgec.backends.interface import Artifact, Format, TensorBinding
from edgec.errors import StorageError
from edgec.frozen import canonical_json
from edgec.passes.contract import PassContext

NAME = "example"
"""Of the backend."""
FORMAT = Format(
    name="npz",
    suffix=".npz",
    media_type="application/vnd.edgec.arrays.npz",
    runner=Path(__file__).with_name("run_npz.py"),
)
FILE = f"model{FORMAT.suffix}"


def emit(model: ExampleModel, ctx: PassContext, out: Path) -> Artifact:
    """Write the artifact file; the same model gives the same bytes.

    Args:
        model: after all passes.
        ctx: the target.
        out: folder to write to; made if it is not there.

    Raises:
        StorageError: the file cannot be written.
    """
    records = canonical_json([layer.model_dump(mode="json") for layer in model.layers])
    arrays = {name: model.arrays[name] for name in sorted(model.arrays)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / FILE).open("wb") as stream:  # NumPy adds .npz to other names
            # NumPy dates every entry 1980-01-01, so that the bytes follow from the content
            np.savez(stream, **{LAYERS: np.frombuffer(records.encode(), np.uint8)}, **arrays)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(out / FILE)) from exc
    last = model.layers[-1].output if model.layers else None
    fed, made = (
        TensorBinding(name=spec.name, artifact_name=spec.name, shape=spec.shape, dtype=spec.dtype)
        for spec in (model.input, model.output)
    )
    return Artifact(
        backend=NAME,
        format=FORMAT.name,
        file=FILE,
        precision=ctx.target.precision,
        inputs=(fed,),
        outputs=(made.model_copy(update={"step": last.scale if last else None}),),
    )
