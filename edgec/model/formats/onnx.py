"""ONNX files."""

from __future__ import annotations

from pathlib import Path

from edgec.model import onnx_file
from edgec.model.exported import dtype_of
from edgec.model.formats.interface import ModelFile
from edgec.model.onnx_floats import in_float32
from edgec.model.onnx_inputs import input_specs
from edgec.model.samples import sample_arrays
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.storage.files import sha256_of


def load(file: ModelFile) -> FloatModel:
    """Read the file, run two made-up samples, and convert it to a torch graph where that is possible.

    Raises:
        ModelError: it is not valid ONNX, is quantized, or ONNX Runtime cannot run it.
        InputSpecError: inputs are open or contradict what is stated.
    """
    from edgec.model.from_onnx import torch_graph

    path, name, stated = file.path, file.name, file.stated
    proto = onnx_file.read_checked(path)
    onnx_file.refuse_quantized(proto, name)
    external = {
        str(Path(name).parent / item): sha256_of(path.parent / item) for item in onnx_file.external_files(proto)
    }
    source = ModelSource(format="onnx", path=name, sha256=sha256_of(path), imported=external)
    notes: tuple[str, ...] = ()
    converted = in_float32(path, proto, name)
    if converted is not None:
        path, notes = converted.path, (converted.note,)
        proto = onnx_file.read_whole(path)
        stated = tuple(converted.restated(item) for item in stated)
    specs = input_specs(proto, stated, name)
    del proto  # a large model's weights are not to be held twice
    inputs = [sample_arrays(specs, seed=0), sample_arrays(specs, seed=1)]
    results = [onnx_file.run_model(path, specs, sample, name) for sample in inputs]
    outputs = tuple(
        TensorSpec(name=title, shape=item.shape, dtype=dtype_of(item.dtype, title, name)) for title, item in results[0]
    )
    samples = [(sample, [item for _, item in result]) for sample, result in zip(inputs, results, strict=True)]
    if converted is not None:
        converted.check_against(file.path, specs, samples)
    traced = torch_graph(onnx_file.read_whole(path), samples)
    return FloatModel(
        file.path.stem, source, specs, outputs, traced.graph, traced.untraceable, traced.graph, path, notes
    )
