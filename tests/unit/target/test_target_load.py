"""Target files: what is told about wrong ones, what they extend, and where each value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import TargetError
from edgec.plan.fit import check_possible
from edgec.target.load import check_file, load_target

BOARD = """\
description = "test board"
arch = "aarch64"
triple = "aarch64-linux-gnu"
cpu = "cortex-a53"
isa = ["neon"]
cores = 2
ram_mb = 512

[sources]
arch = "a"
triple = "b"
cpu = "c"
isa = "d"
cores = "e"
ram_mb = "f"
"""
START = 'device = "rpi4"\nprecision = "int8"\n'
EMIT = '[[emit]]\nbackend = "tflite"\n'


def write(root: Path, name: str, text: str) -> Path:
    file = root / "targets" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def error(root: Path, name: str = "mine") -> str:
    with pytest.raises(TargetError) as caught:
        check_possible(load_target(name, root))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (START + "[quantize]\nsampels = 3\n" + EMIT, 4, 'quantize.sampels: unknown key; did you mean "samples"?'),
        (START + EMIT + 'engin = "x86"\n', 5, 'emit.0.engin: unknown key; did you mean "engine"?'),
        ('devise = "x"\n' + START + EMIT, 1, 'devise: unknown key; did you mean "device"?'),
        (START + "quantize = { sampels = 3 }\n" + EMIT, 3, 'quantize.sampels: unknown key; did you mean "samples"?'),
        (START + '[quantize]\nsamples = "many"\n' + EMIT, 4, "quantize.samples: wrong type"),
        (START + "[quantize]\nsamples = 2.5\n" + EMIT, 4, "quantize.samples: wrong type"),
        ("emit = 3\n" + START, 1, "emit: wrong type"),
        ('device = "rpi4"\nprecision = "int4"\n' + EMIT, 2, "precision: bad value 'int4', expected 'fp32'"),
        ('device = "rpi4"\nprecision = "in8"\n' + EMIT, 2, 'did you mean "int8"?'),
        (START + '[quantize]\nweights = "per-chanel"\n' + EMIT, 4, 'did you mean "per-channel"?'),
        (START + "[prune]\namount = 0.99\n" + EMIT, 4, "prune.amount: Input should be less than or equal to 0.95"),
        (START + "[prune]\npattern = '2:4'\n" + EMIT, 3, "two of four weights to zero: sparsity = 0.5"),
        (START + "[prune]\nimportance = 'tailor'\n" + EMIT, 4, 'did you mean "taylor"?'),
        (START + "[bench]\nthreads = 0\n" + EMIT, 4, "bench.threads: Input should be greater than or equal to 1"),
        (START + "emit = []\n", 3, "emit: Tuple should have at least 1 item"),
        ('precision = "int8"\ndevice = "rpi44"\n' + EMIT, 2, 'no device is called "rpi44"\n  did you mean "rpi4"?'),
        ('precision = "int8"\ndevice = 4\n' + EMIT, 2, "device: missing or not text"),
        ("extends = 4\n", 1, "extends: wrong type"),
        ('extends = "rpi4-in8"\n', 1, 'extends: no target is called "rpi4-in8"\n  did you mean "rpi4-int8"?'),
        (START + '[[emit]]\nbackend = "tflit"\n', 4, 'no backend is called "tflit"\n  did you mean "tflite"?'),
        (START + EMIT + 'runtimes = ["tflite"]\n', 4, "tflite; known: ai-edge-litert"),
        (START + '[[emit]]\nbackend = "onnxruntime"\nruntimes = []\n', 4, "empty: nothing would be verified"),
    ],
)
def test_a_wrong_file_is_told_with_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    file = write(tmp_path, "mine", text)
    message = error(tmp_path)
    assert f"{file}:{line}: " in message
    assert words in message


@pytest.mark.parametrize(
    ("device", "precision", "emit", "words"),
    [
        ("x86-64", "int8", 'backend = "qnnpack"', "qnnpack is for aarch64, and the device is x86_64"),
        ("rpi4", "int8", 'backend = "fbgemm"', "fbgemm is for x86_64, and the device is aarch64"),
        ("rpi3-armv7", "int8", 'backend = "onnxruntime"', "ONNX Runtime has no release for 32-bit ARM"),
        ("rpi3-armv7", "fp32", 'backend = "qnnpack"', "the device is armv7"),
        ("rpi3-armv7", "int8", 'backend = "tflite"\nruntimes = ["ai-edge-litert"]', "does not exist for armv7"),
        ("rpi4", "int8", 'backend = "tflite"\nengine = "xnnpack"', "no engines to choose from"),
        ("x86-64", "int8", 'backend = "fbgemm"\nengine = "qnnpack"', 'engine "qnnpack" is not one of auto, fbgemm'),
        ("x86-64", "int8", 'backend = "onnxruntime"\nruntimes = ["torch"]', "ONNX artifacts run in onnxruntime"),
    ],
)
def test_an_impossible_combination_is_refused(
    tmp_path: Path, device: str, precision: str, emit: str, words: str
) -> None:
    file = write(tmp_path, "mine", f'device = "{device}"\nprecision = "{precision}"\n[[emit]]\n{emit}\n')
    message = error(tmp_path)
    assert f"{file}:4: emit.0: " in message
    assert words in message


def test_7_bit_weights_are_refused_where_the_converter_has_none(tmp_path: Path) -> None:
    write(tmp_path, "mine", START + '[quantize]\nreduced_range = "yes"\n' + EMIT)
    assert "TensorFlow's converter has no 7-bit weights" in error(tmp_path)


def test_whole_record_rules(tmp_path: Path) -> None:
    write(tmp_path, "mine", START + EMIT + EMIT)
    assert "emit: backend tflite stands twice" in error(tmp_path)
    write(tmp_path, "mine", START + "[bench]\nthreads = 5\n" + EMIT)
    assert "bench.threads: 5 is more than rpi4's 4 cores" in error(tmp_path)
    write(tmp_path, "mine", START.replace("int8", "fp16") + '[quantize]\nfloat_layers = ["head"]\n' + EMIT)
    assert "quantize.float_layers: fp16 keeps no layers in float; only int8 does" in error(tmp_path)
    write(tmp_path, "My_target", START + EMIT)
    assert '"My_target" is not a valid name' in error(tmp_path, "My_target")
    write(tmp_path, "mine", 'name = "yours"\n' + START + EMIT)
    assert 'name: "yours" is not the name of the file' in error(tmp_path)
    write(tmp_path, "mine", 'precision = "int8"\n' + EMIT)
    assert "device: missing or not text" in error(tmp_path)
    write(tmp_path, "mine", START)
    assert "emit: missing; it has no default" in error(tmp_path)
    write(tmp_path, "mine", "device = \n")
    assert "not valid TOML" in error(tmp_path)


def test_an_unknown_name_gets_a_suggestion(tmp_path: Path) -> None:
    message = error(tmp_path, "rpi4-in8")
    assert 'no target is called "rpi4-in8"' in message
    assert 'did you mean "rpi4-int8"?' in message
    assert "`edgec targets` lists the " in error(tmp_path, "zzz")


def test_extends_merges_tables_and_replaces_arrays(tmp_path: Path) -> None:
    parent = write(
        tmp_path,
        "parent",
        START + "[quantize]\nsamples = 9\n[bench]\nruns = 5\n" + EMIT + EMIT.replace("tflite", "qnnpack"),
    )
    child = write(
        tmp_path, "child", 'extends = "parent"\nprecision = "int8"\n[quantize]\nweights = "per-tensor"\n' + EMIT
    )
    resolved = load_target("child", tmp_path)
    target = resolved.target
    assert target.name == "child"
    assert (target.quantize.samples, target.quantize.weights, target.bench.runs) == (9, "per-tensor", 5)
    assert [emit.backend for emit in target.emit] == ["tflite"]
    assert resolved.origin("quantize.samples") == f"{parent}:4"
    assert resolved.origin("quantize.weights") == f"{child}:4"
    assert resolved.origin("precision") == f"{child}:2"
    assert resolved.origin("device") == f"{parent}:1"
    assert resolved.origin("emit.0.backend") == f"{child}:6"
    assert resolved.origin("emit.1.backend") == "default"
    assert resolved.origin("bench.warmup") == "default"
    assert resolved.origin("device.cores").endswith("devices/rpi4.toml:7")
    assert resolved.files[:2] == (child, parent)
    assert resolved.files[-1].name == "rpi4.toml"


def test_a_wrong_value_is_told_where_it_was_inherited_from(tmp_path: Path) -> None:
    parent = write(tmp_path, "parent", START.replace("rpi4", "rpi44") + "[quantize]\nsampels = 9\n" + EMIT)
    write(tmp_path, "child", 'extends = "parent"\n[quantize]\nweights = "per-tensor"\n')
    assert f'{parent}:1: device: no device is called "rpi44"' in error(tmp_path, "child")
    parent.write_text(parent.read_text().replace("rpi44", "rpi4"))
    assert f"{parent}:4: quantize.sampels: unknown key" in error(tmp_path, "child")


def test_inline_tables_have_origins(tmp_path: Path) -> None:
    file = write(tmp_path, "mine", START + 'quantize = { samples = 3 }\nemit = [{ backend = "tflite" }]\n')
    resolved = load_target("mine", tmp_path)
    assert resolved.origin("quantize.samples") == f"{file}:3"
    assert resolved.origin("emit.0.backend") == f"{file}:4"
    assert resolved.origin("emit.0.engine") == "default"


def test_a_circle_of_extends_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "one", 'extends = "two"\n')
    write(tmp_path, "two", 'extends = "one"\n')
    assert "extends: a circle: one -> two -> one" in error(tmp_path, "one")


def test_a_project_refines_a_built_in_target_of_the_same_name(tmp_path: Path) -> None:
    file = write(tmp_path, "rpi4-int8", 'extends = "rpi4-int8"\n[quantize]\nsamples = 7\n')
    resolved = load_target("rpi4-int8", tmp_path)
    assert resolved.target.quantize.samples == 7
    assert len(resolved.target.emit) == len(load_target("rpi4-int8", tmp_path / "elsewhere").target.emit)
    assert resolved.target.digest() != load_target("rpi4-int8", tmp_path / "elsewhere").target.digest()
    assert check_file(file) == resolved


def test_a_projects_device_is_found_first_and_checked(tmp_path: Path) -> None:
    device = write(tmp_path, "devices/rpi4", BOARD)
    write(tmp_path, "mine", START + EMIT)
    resolved = load_target("mine", tmp_path)
    assert (resolved.target.device.name, resolved.target.device.cpu) == ("rpi4", "cortex-a53")
    assert resolved.origin("device.cpu") == f"{device}:4"
    cases = {
        'cpu = "c"\n': ("", f"{device}: sources: no source is given for cpu"),
        'ram_mb = "f"\n': ('ram_mb = "f"\nemulator = "g"\n', "sources: emulator: no such fact is stated"),
        'isa = ["neon"]': ('isa = ["neon", "avx2"]', "isa: avx2: no such feature of aarch64; known: bf16"),
        'arch = "aarch64"': ('arch = "arm64"', f"{device}:2: arch: bad value 'arm64', expected 'x86_64', 'aarch64'"),
        "cores = 2": ("core = 2", f'{device}:6: core: unknown key; did you mean "cores"?'),
        'description = "test board"': ('name = "rpi5"\ndescription = ""', f'{device}:1: name: "rpi5" is not the name'),
    }
    for old, (new, words) in cases.items():
        assert old in BOARD
        device.write_text(BOARD.replace(old, new))
        assert words in error(tmp_path)


@pytest.mark.parametrize(
    ("target", "isa", "multiple"),
    [("rpi4-int8", {"neon"}, 8), ("x86-64-int8", {"sse4.2", "avx2"}, 16), ("x86-64-int8", {"sse4.2"}, 4)],
)
def test_channels_that_kernels_compute_at_once(tmp_path: Path, target: str, isa: set[str], multiple: int) -> None:
    device = load_target(target, tmp_path).target.device
    assert device.model_copy(update={"isa": frozenset(isa)}).channel_multiple == multiple
