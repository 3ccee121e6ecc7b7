"""Every format loads to the same function; everything else is refused with the error that explains it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgec.errors import EdgecError, InputSpecError, ModelError, UntrustedModelError
from edgec.model import onnx_file
from edgec.model.export_onnx import export_onnx
from edgec.model.load import load_model
from edgec.model.onnx_file import run
from edgec.model.spec import FloatModel
from edgec.project.spec import DType, InputSpec, ModelSpec

IMAGE = (InputSpec(name="x", shape=(1, 3, 8, 8)),)


def _input(*shape: int, name: str = "x", dtype: DType = "float32") -> tuple[InputSpec, ...]:
    return (InputSpec(name=name, shape=shape, dtype=dtype),)


def _sequential() -> torch.nn.Sequential:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU6(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    ).eval()


def _answer(model: FloatModel, module: torch.nn.Module, shape: tuple[int, ...] = (1, 3, 8, 8)) -> None:
    assert model.module is not None
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.allclose(model.module(sample), module(sample), atol=1e-5)


def test_python_entry_with_weights_and_arguments(project: Path) -> None:
    spec = ModelSpec(path="net.py:make", arguments={"channels": 6}, inputs=IMAGE)
    state = load_model(spec, project).module.state_dict()  # type: ignore[union-attr]
    changed = {name: value * 2 if value.is_floating_point() else value for name, value in state.items()}
    torch.save(changed, project / "w.pt")
    model = load_model(spec.model_copy(update={"weights": "w.pt"}), project)
    assert model.graph is not None
    assert model.untraceable == ""
    assert [item.shape for item in model.outputs] == [(1, 3)]
    assert torch.equal(model.graph.get_parameter("stem.weight"), changed["stem.weight"])
    assert model.source.entry == "make"
    assert model.source.weights == "w.pt"
    assert len(model.source.weights_sha256 or "") == 64


def test_an_entry_leaves_the_interpreter_as_it_was(project: Path) -> None:
    path, modules = list(sys.path), set(sys.modules)
    load_model(ModelSpec(path="net.py:Net", inputs=IMAGE), project)
    assert sys.path == path
    assert not {"net", "blocks"} & (set(sys.modules) - modules)


def test_random_initial_weights_are_the_same_in_every_load(project: Path) -> None:
    spec = ModelSpec(path="net.py:Net", inputs=IMAGE)
    before = torch.random.get_rng_state()
    one, two = load_model(spec, project), load_model(spec, project)
    assert torch.equal(one.graph.get_parameter("head.weight"), two.graph.get_parameter("head.weight"))  # type: ignore[union-attr]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_double_parameters_become_float32_with_a_note(project: Path) -> None:
    model = load_model(ModelSpec(path="net.py:doubled", inputs=IMAGE), project)
    assert {item.dtype for item in model.outputs} == {"float32"}
    assert "no weights file" in model.notes[0]
    assert "float64" in model.notes[1]


def test_branch_on_data_is_untraceable_with_the_line(project: Path) -> None:
    model = load_model(ModelSpec(path="net.py:Branching", inputs=_input(1, 4)), project)
    assert model.graph is None
    assert model.module is not None
    assert "net.py:" in model.untraceable
    assert "if x.sum() > 0:" in model.untraceable


def test_exported_program(project: Path) -> None:
    module = _sequential()
    program = torch.export.export(module, (torch.randn(1, 3, 8, 8),))
    torch.export.save(program, project / "m.pt2")
    model = load_model(ModelSpec(path="m.pt2"), project)
    assert model.inputs[0].shape == (1, 3, 8, 8)
    assert model.graph is not None, model.untraceable
    assert any(isinstance(item, torch.nn.Conv2d) for item in model.graph.modules())
    _answer(model, module)


def test_exported_at_batch_two_keeps_it(project: Path) -> None:
    torch.export.save(torch.export.export(_sequential(), (torch.randn(2, 3, 8, 8),)), project / "m.pt2")
    model = load_model(ModelSpec(path="m.pt2"), project)
    assert model.inputs[0].shape == (2, 3, 8, 8)
    assert model.graph is not None, model.untraceable
    with pytest.raises(InputSpecError, match=r"stated float32\[1, 3, 8, 8\], the model expects float32\[2, 3, 8, 8\]"):
        load_model(ModelSpec(path="m.pt2", inputs=IMAGE), project)


class _Gated(torch.nn.Module):
    """One input by position, one by name; a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, *, gate: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.layer(x) * gate.sigmoid()}


def test_exported_with_names_and_a_dynamic_batch(project: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    inputs = torch.randn(2, 4), torch.randn(2, 4)
    program = torch.export.export(
        _Gated(), inputs[:1], {"gate": inputs[1]}, dynamic_shapes={"x": {0: batch}, "gate": {0: batch}}
    )
    torch.export.save(program, project / "m.pt2")
    model = load_model(ModelSpec(path="m.pt2"), project)
    assert [(item.name, item.shape) for item in model.inputs] == [("x", (1, 4)), ("gate", (1, 4))]
    assert model.outputs[0].name == "y"
    assert model.graph is not None, model.untraceable


def test_torchscript(project: Path) -> None:
    module = _sequential()
    torch.jit.trace(module, torch.randn(1, 3, 8, 8)).save(project / "m.pt")
    with pytest.raises(InputSpecError, match="does not state its input shape"):
        load_model(ModelSpec(path="m.pt"), project)
    model = load_model(ModelSpec(path="m.pt", inputs=IMAGE), project)
    assert model.source.format == "torchscript"
    assert model.graph is not None, model.untraceable
    _answer(model, module)


def _onnx(module: torch.nn.Module, path: Path, **options: object) -> None:
    torch.onnx.export(
        module, (torch.randn(1, 3, 8, 8),), str(path), dynamo=False, input_names=["image"], output_names=["scores"],
        **{"opset_version": 17, **options},  # type: ignore[arg-type]
    )  # fmt: skip


def test_torchscript_with_computed_weights(project: Path) -> None:
    parametrizations = torch.nn.utils.parametrizations
    module = torch.nn.Sequential(
        parametrizations.weight_norm(torch.nn.Conv2d(3, 4, 3)), parametrizations.spectral_norm(torch.nn.Conv2d(4, 2, 1))
    ).eval()
    torch.jit.save(torch.jit.trace(module, torch.randn(1, 3, 8, 8)), project / "m.pt")  # type: ignore[no-untyped-call]
    model = load_model(ModelSpec(path="m.pt", inputs=IMAGE), project)
    written = export_onnx(model, project / "m.onnx")
    sample = torch.randn(1, 3, 8, 8)
    found = onnx_file.run(written, model.inputs, [sample.numpy()])[0][1]
    assert torch.allclose(torch.from_numpy(found), module(sample), atol=1e-5)


def test_onnx_with_symbolic_batch(project: Path) -> None:
    module = _sequential()
    _onnx(module, project / "m.onnx", dynamic_axes={"image": {0: "batch"}})
    model = load_model(ModelSpec(path="m.onnx"), project)
    assert [(item.name, item.shape) for item in (*model.inputs, *model.outputs)] == [
        ("image", (1, 3, 8, 8)),
        ("scores", (1, 2)),
    ]
    assert model.graph is not None, model.untraceable
    _answer(model, module)
    sample = np.ones((1, 3, 8, 8), np.float32)
    [(name, scores)] = run(project / "m.onnx", model.inputs, [sample])
    assert name == "scores"
    assert np.allclose(scores, model.graph(torch.from_numpy(sample)).detach().numpy(), atol=1e-5)


def test_onnx_of_a_newer_opset_still_gets_a_graph(project: Path) -> None:
    _onnx(_sequential(), project / "m.onnx", opset_version=18)
    assert load_model(ModelSpec(path="m.onnx"), project).graph is not None


def test_onnx_symbolic_side_must_be_stated(project: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    _onnx(module, project / "m.onnx", dynamic_axes={"image": {2: "height"}})
    with pytest.raises(InputSpecError, match="the shape is not fixed"):
        load_model(ModelSpec(path="m.onnx"), project)
    model = load_model(ModelSpec(path="m.onnx", inputs=_input(1, 3, 12, 8, name="image")), project)
    assert model.outputs[0].shape == (1, 4, 10, 6)


def test_onnx_that_torch_has_no_form_for_stays_onnx_only(project: Path) -> None:
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("NonZero", ["x"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 3])],
            [onnx.helper.make_tensor_value_info("y", 7, [3, "found"])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
    )
    proto.ir_version = 8
    onnx.save(proto, project / "m.onnx")
    model = load_model(ModelSpec(path="m.onnx"), project)
    assert model.graph is None
    assert model.untraceable == "the model is known as ONNX only: NonZero: its input depends on the model's input data"
    assert model.onnx == (project / "m.onnx").resolve()


def test_onnx_external_data(project: Path) -> None:
    _onnx(_sequential(), project / "m.onnx")
    proto = onnx.load(project / "m.onnx")
    onnx.save(proto, project / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=16)
    first = load_model(ModelSpec(path="e.onnx"), project)
    assert first.graph is not None
    content = bytearray((project / "e.bin").read_bytes())
    content[0] ^= 1
    (project / "e.bin").write_bytes(content)
    changed = load_model(ModelSpec(path="e.onnx"), project).source
    assert set(changed.imported) == {"e.bin"}
    assert changed.imported != first.source.imported
    (project / "e.bin").unlink()
    with pytest.raises(ModelError, match=r"external data is missing: e\.bin"):
        load_model(ModelSpec(path="e.onnx"), project)


def test_onnx_external_data_outside_its_folder_is_refused(project: Path) -> None:
    folder = project / "inside"
    folder.mkdir()
    _onnx(_sequential(), project / "m.onnx")
    proto = onnx.load(project / "m.onnx")
    onnx.save(proto, folder / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=16)
    (folder / "e.bin").rename(project / "e.bin")
    content = onnx.load(folder / "e.onnx", load_external_data=False)
    for tensor in content.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../e.bin"
    (folder / "e.onnx").write_bytes(content.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        load_model(ModelSpec(path="inside/e.onnx"), project)


def _pickled(project: Path) -> str:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), project / "whole.pt")
    return "whole.pt"


def _pickled_legacy(project: Path) -> str:
    torch.save(torch.nn.Linear(2, 2), project / "old.pt", _use_new_zipfile_serialization=False)
    return "old.pt"


@pytest.mark.parametrize("make", [_pickled, _pickled_legacy])
def test_pickled_module_is_refused(project: Path, make: object) -> None:
    with pytest.raises(UntrustedModelError, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        load_model(ModelSpec(path=make(project)), project)  # type: ignore[operator]
    assert "file.py:function" in caught.value.hint


def test_state_dict_alone_is_no_model(project: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), project / "w.pt")
    with pytest.raises(ModelError, match="a state_dict has no architecture"):
        load_model(ModelSpec(path="w.pt"), project)


def test_weights_that_execute_code_are_refused(project: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, project / "w.pt")
    with pytest.raises(UntrustedModelError, match="Linear"):
        load_model(ModelSpec(path="net.py:Net", weights="w.pt", inputs=IMAGE), project)


def test_exported_program_with_a_pickled_part_is_refused(project: Path) -> None:
    import zipfile

    torch.export.save(torch.export.export(_sequential(), (torch.randn(1, 3, 8, 8),)), project / "m.pt2")
    torch.save(torch.nn.Linear(2, 2), project / "evil.pt")
    with zipfile.ZipFile(project / "m.pt2") as old, zipfile.ZipFile(project / "n.pt2", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("sample_inputs/model.pt"):
                content = (project / "evil.pt").read_bytes()
            new.writestr(name, content)
    with pytest.raises(UntrustedModelError, match=r"sample_inputs/model\.pt"):
        load_model(ModelSpec(path="n.pt2"), project)


def test_weights_of_another_architecture(project: Path) -> None:
    model = load_model(ModelSpec(path="net.py:make", inputs=IMAGE), project)
    state = model.module.state_dict()  # type: ignore[union-attr]
    state["extra"] = state.pop("stem.bias")
    torch.save(state, project / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_model(ModelSpec(path="net.py:make", weights="w.pt", arguments={"channels": 5}, inputs=IMAGE), project)
    text = str(caught.value)
    assert "missing in the file: stem.bias" in text
    assert "not in the model: extra" in text
    assert "[4, 3, 3, 3] in the file, [5, 3, 3, 3] in the model" in text


def test_data_parallel_prefix_and_nested_state_are_understood(project: Path) -> None:
    state = load_model(ModelSpec(path="net.py:Net", inputs=IMAGE), project).module.state_dict()  # type: ignore[union-attr]
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": item for key, item in state.items()}}, project / "w.pt")
    model = load_model(ModelSpec(path="net.py:Net", weights="w.pt", inputs=IMAGE), project)
    assert len(model.notes) == 2


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (ModelSpec(), ModelError, "no model is given"),
        (ModelSpec(path="nett.py:Net"), ModelError, 'did you mean "net.py"?'),
        (ModelSpec(path="net.py"), ModelError, "net.py:function"),
        (ModelSpec(path="net.py:Nett"), ModelError, 'did you mean "Net"?'),
        (ModelSpec(path="net.py:Net"), InputSpecError, "input is not known"),
        (ModelSpec(path="net.py:not_a_module"), ModelError, "returned a int, not a torch.nn.Module"),
        (ModelSpec(path="net.py:broken"), ModelError, "it fails when called"),
        (ModelSpec(path="net.py:make", arguments={"depth": 3}), ModelError, "unexpected keyword argument 'depth'"),
        (ModelSpec(path="net.py:Net", inputs=_input(1, 1, 8, 8)), InputSpecError, "raise ValueError"),
        (ModelSpec(path="net.py:Branching", inputs=_input(1, 5)), InputSpecError, "1x5 and 4x4"),
        (ModelSpec(path="text.onnx"), ModelError, "not an ONNX model"),
        (ModelSpec(path="empty.onnx"), ModelError, "not an ONNX model"),
        (ModelSpec(path="text.pt"), ModelError, "not a model file"),
        (ModelSpec(path="."), ModelError, "this is a folder"),
        (ModelSpec(path="text.onnx", weights="text.pt"), ModelError, "go with a Python entry only"),
        (ModelSpec(path="wrong.py:f"), ModelError, "line 1"),
    ],
)
def test_refusals(project: Path, spec: ModelSpec, error: type[EdgecError], text: str) -> None:
    (project / "text.onnx").write_text("this is not a model")
    (project / "text.pt").write_text("this is not a model")
    (project / "empty.onnx").write_bytes(b"")
    (project / "wrong.py").write_text("def f(:")
    with pytest.raises(error) as caught:
        load_model(spec, project)
    assert text in str(caught.value)
