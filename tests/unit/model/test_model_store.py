"""What a worker process gets is what was handed over, and fingerprints tell equal from different."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgec.errors import UnsupportedError
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.onnx_file import run
from edgec.model.samples import sample_arrays, sample_tensors
from edgec.model.spec import FloatModel
from edgec.project.spec import InputSpec, ModelSpec


def _net(project: Path, function: str = "Net", shape: tuple[int, ...] = (1, 3, 8, 8)) -> FloatModel:
    return load_model(ModelSpec(path=f"net.py:{function}", inputs=(InputSpec(name="x", shape=shape),)), project)


def test_round_trip_in_another_process_keeps_content_and_fingerprint(project: Path) -> None:
    model = _net(project)
    store.save(model, project / "stored")
    code = (
        "import sys; from pathlib import Path; from edgec.model import store;"
        "print(store.fingerprint(store.load(Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(project / "stored")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=project)
    assert told.stdout.strip() == store.fingerprint(model)
    again = store.load(project / "stored")
    sample = sample_tensors(model.inputs, seed=4)
    assert again.graph is not None
    assert model.graph is not None
    assert torch.equal(again.graph(*sample), model.graph(*sample))
    assert (again.name, again.source, again.inputs, again.outputs) == (
        model.name,
        model.source,
        model.inputs,
        model.outputs,
    )


def test_untraceable_model_travels_as_onnx(project: Path) -> None:
    model = _net(project, "Branching", (1, 4))
    assert model.graph is None
    store.save(model, project / "stored")
    again = store.load(project / "stored")
    assert again.onnx is not None
    assert again.untraceable == model.untraceable
    assert any("net.py" in note for note in again.notes)  # the exporter fixed the branch: said, not hidden
    assert store.fingerprint(again) == store.fingerprint(model)


def test_any_change_changes_the_fingerprint(project: Path) -> None:
    model = _net(project)
    prints = {store.fingerprint(model)}
    assert store.fingerprint(_net(project)) in prints
    for change in (_next_weight, _other_padding, _other_order):
        other = _net(project)
        assert other.graph is not None
        change(other.graph)
        prints.add(store.fingerprint(other))
    renamed = tuple(item.model_copy(update={"name": "y"}) for item in model.inputs)
    prints.add(store.fingerprint(replace(model, inputs=renamed)))
    assert len(prints) == 5


def _next_weight(graph: torch.fx.GraphModule) -> None:
    bias = graph.get_parameter("head.bias")
    with torch.no_grad():
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))


def _other_padding(graph: torch.fx.GraphModule) -> None:
    graph.get_submodule("stem").padding_mode = "reflect"  # type: ignore[assignment]


def _other_order(graph: torch.fx.GraphModule) -> None:
    node = next(item for item in graph.graph.nodes if "add" in item.name)
    node.args = (node.args[1], node.args[0])


def test_export_is_stable_and_equal_to_the_model(project: Path) -> None:
    from edgec.model.export_onnx import export_onnx

    model = _net(project)
    one, two = export_onnx(model, project / "one.onnx"), export_onnx(model, project / "other" / "two.onnx")
    assert one.read_bytes() == two.read_bytes()
    assert str(project).encode() not in one.read_bytes()
    arrays = sample_arrays(model.inputs, seed=3)
    [(name, value)] = run(one, model.inputs, arrays)
    assert name == model.outputs[0].name
    assert model.graph is not None
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(value), model.graph(*map(torch.from_numpy, arrays)), atol=1e-5)


def test_attention_is_exported_and_the_fast_path_is_restored(project: Path) -> None:
    from edgec.model.export_onnx import export_onnx

    (project / "enc.py").write_text(
        "from torch import nn\ndef make(): return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)\n"
    )
    model = load_model(ModelSpec(path="enc.py:make", inputs=(InputSpec(name="x", shape=(1, 5, 8)),)), project)
    export_onnx(model, project / "m.onnx")
    assert torch.backends.mha.get_fastpath_enabled()


def test_op_without_onnx_form_is_named(project: Path) -> None:
    from edgec.model.export_onnx import export_onnx

    (project / "odd.py").write_text(
        "import torch\nclass Odd(torch.nn.Module):\n    def forward(self, x): return torch.special.bessel_j0(x)\n"
    )
    model = load_model(ModelSpec(path="odd.py:Odd", inputs=(InputSpec(name="x", shape=(1, 4)),)), project)
    with pytest.raises(UnsupportedError, match="special_bessel_j0"):
        export_onnx(model, project / "m.onnx")


def test_onnx_source_is_exported_with_its_dims_fixed(project: Path) -> None:
    import onnx

    from edgec.model.export_onnx import export_onnx
    from edgec.model.onnx_file import dims_of

    module = torch.nn.Conv2d(1, 2, 3).eval()
    torch.onnx.export(
        module, (torch.zeros(1, 1, 8, 8),), str(project / "m.onnx"), dynamo=False, opset_version=17,
        input_names=["x"], dynamic_axes={"x": {0: "n", 2: "h"}},
    )  # fmt: skip
    model = load_model(ModelSpec(path="m.onnx", inputs=(InputSpec(name="x", shape=(1, 1, 10, 8)),)), project)
    proto = onnx.load(export_onnx(model, project / "fixed.onnx"))
    assert dims_of(proto.graph.input[0]) == [1, 1, 10, 8]
    assert dims_of(proto.graph.output[0]) == [1, 2, 8, 6]


def test_annotations_that_are_text_do_not_matter(project: Path) -> None:
    """PEP 563 makes every annotation of the user's file a string."""
    text = (
        (project / "net.py").read_text().replace("def forward(self, x):", "def forward(self, x: torch.Tensor) -> Any:")
    )
    (project / "net.py").write_text("from __future__ import annotations\nfrom typing import Any\n" + text)
    model = _net(project)
    store.save(model, project / "stored")
    assert store.fingerprint(store.load(project / "stored")) == store.fingerprint(model)
