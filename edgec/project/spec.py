"""The records of edgec.toml. Each field's ``flag`` names the command-line flag that sets the same key."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, model_validator

from edgec.frozen import Frozen
from edgec.quant.recipe import Effort, RungName

DType = Literal["float32", "float64", "int64", "int32", "int8", "uint8", "bool"]
"""Dtypes of a model's inputs and outputs."""


def _key(flag: str, help_: str, default: Any = None, **constraints: Any) -> Any:
    """A key with its flag; a `default` of ``...`` means that it has none."""
    return Field(default, description=help_, json_schema_extra={"flag": flag}, **constraints)


class InputSpec(Frozen):
    """``[[model.inputs]]``: one input of the model, in call order."""

    name: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    """Full shape with the batch axis, normally ``[1, ...]``; ``[]`` for a scalar."""
    dtype: DType = "float32"


class ModelSpec(Frozen):
    """``[model]``: where the float model is."""

    path: str | None = _key("MODEL", "model file (.pt2, .onnx, TorchScript .pt) or Python entry file.py:function")
    weights: str | None = _key("--weights", "state_dict file loaded into the Python entry's module")
    arguments: dict[str, Any] = _key("--argument", "keyword arguments of the Python entry", {})
    inputs: tuple[InputSpec, ...] = _key("--input", "input specs; needed for Python entries and TorchScript", ())


Resize = Literal["exact", "fit", "center-crop"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "box", "lanczos"]
Color = Literal["rgb", "bgr", "gray"]


class Preprocess(Frozen):
    """``[preprocess]``: from stored samples to model input.

    Image files are brought to the input's size and colours; then all samples are ``(x / divide - mean) / std``.
    """

    resize: Resize | None = _key(
        "--resize",
        "images of another size than the input's: exact (stretched), fit (whole image, with a border) or center-crop "
        "(shorter side to the input's size, the rest cut off)",
    )
    resize_to: int | None = _key(
        "--resize-to", "shorter side in pixels before center-crop cuts (default: as short as the input allows)", ge=1
    )
    interpolation: Interpolation | None = _key(
        "--interpolation", "of resized images: bilinear (default), bicubic, nearest, box or lanczos, as Pillow has them"
    )
    pad: int | None = _key("--pad", "value of the border of fit, 0 to 255 (default: 114)", ge=0, le=255)
    color: Color | None = _key(
        "--color", "channels of image files: rgb or bgr for 3 (default: rgb), gray for 1 (default there)"
    )
    divide: float | None = _key("--divide", "divide raw values by this first (255 for 8-bit images)", gt=0)
    mean: tuple[float, ...] | None = _key("--mean", "subtract; one value, or one per channel")
    std: tuple[float, ...] | None = _key("--std", "divide by; one value, or one per channel")

    @model_validator(mode="after")
    def _keys_belong_together(self) -> Self:
        needed = {"resize_to": ("center-crop",), "pad": ("fit",), "interpolation": ("exact", "fit", "center-crop")}
        for key, modes in needed.items():
            if getattr(self, key) is not None and self.resize not in modes:
                listed = " or ".join(f'"{mode}"' for mode in modes)
                raise ValueError(f"{key} is for resize = {listed}, which is not stated")
        return self


_DATA = "npz/npy file, image folder (one sub-folder a class), or Python entry file.py:function"
_ARRAYS = "model input = array name in an npz; needed when they differ and there are several"


class DataSpec(Frozen):
    """``[calibration]`` or ``[evaluation]``: a set of samples."""

    data: str = Field(description=_DATA)
    inputs: dict[str, str] = Field({}, description=_ARRAYS)
    labels: str | None = Field(
        None, description='array name of the labels in an npz (default: "y" or "labels" if present), or a .npy file'
    )


class CalibrationSpec(DataSpec):
    """``[calibration]``: the representative dataset."""

    data: str = _key("--calibration", _DATA, ...)
    inputs: dict[str, str] = _key("--calibration-array", _ARRAYS, {})
    labels: str | None = _key(
        "--calibration-labels", "labels for class balance: array in the npz, or .npy beside the data"
    )
    samples: int | None = _key(
        "--calibration-samples", "samples to draw, balanced by class (default: the target's)", ge=1
    )
    more: tuple[str, ...] = _key(
        "--more-calibration", "further data, used whole: what `edgec validate --suggest-calibration` wrote", ()
    )


class EvaluationSpec(DataSpec):
    """``[evaluation]``: the held-out samples that artifacts are judged on."""

    data: str = _key("--evaluate", _DATA, ...)
    inputs: dict[str, str] = _key("--evaluate-array", _ARRAYS, {})
    labels: str | None = _key("--labels", "labels of the evaluation set: array in the npz, or .npy beside the data")
    samples: int | None = _key("--evaluate-samples", "use at most this many, balanced by class (default: all)", ge=1)
    metric: str = _key("--metric", "auto, top1, agreement, sqnr, or a Python entry file.py:function", "auto")


class TrainSpec(DataSpec):
    """``[train]``: quantization-aware training, the last rung before a target's fallback precision."""

    data: str = _key("--train", _DATA, ...)
    inputs: dict[str, str] = _key("--train-array", _ARRAYS, {})
    labels: str | None = _key("--train-labels", "labels to train with: array in the npz, or .npy beside the data")
    samples: int | None = _key("--train-samples", "train on at most this many, balanced by class (default: all)", ge=1)
    loss: str = _key(
        "--loss",
        "auto (cross-entropy with class labels, and distillation from the float model), cross-entropy, distill, or a "
        "Python entry file.py:function of (outputs, labels)",
        "auto",
    )
    epochs: int | None = _key("--epochs", "passes over the training data (default: 4, or more for small data)", ge=1)
    learning_rate: float | None = _key(
        "--learning-rate",
        "of Adam, as a part of each tensor's size; falls to 0 along a cosine (default: 1e-4, for 4 bits 1e-3)",
        gt=0,
    )
    batch_size: int = _key("--batch-size", "training samples a step", 32, ge=1)
    function: str | None = _key(
        "--train-function", "your own training loop: Python entry file.py:function of (model, samples)"
    )


class Gates(Frozen):
    """``[gates]``: what an artifact must hold. With none stated, defaults that fit the metric apply and are shown."""

    max_drop: float | None = _key(
        "--max-drop", "largest allowed drop against float: percentage points, or your own metric's scale", ge=0
    )
    min_agreement: float | None = _key(
        "--min-agreement", "smallest allowed share of equal top-1 with float, 0 to 1", ge=0, le=1
    )
    min_sqnr_db: float | None = _key("--min-sqnr", "smallest allowed output SQNR in dB")
    min_accuracy: float | None = _key(
        "--min-accuracy",
        "smallest allowed metric of the float model and of each artifact: percent (90), a share (0.9), or your own "
        "metric's scale",
    )
    strict: bool = _key(
        "--strict-gate", "judge the 95 % confidence bound of drop and agreement, not the value itself", False
    )
    max_size_kib: float | None = _key("--max-size", "largest allowed artifact in KiB (also: the target's budget)", gt=0)


class BuildSpec(Frozen):
    """``[build]``: how to build."""

    targets: tuple[str, ...] = _key("--target", "target to build, or a glob of several: 'rpi4-*'", ())
    out: str = _key("--out", "folder for bundles", "dist")
    seed: int = _key("--seed", "seed of everything random", 0, ge=0)
    effort: Effort = _key(
        "--effort", "how much of the accuracy ladder is tried before the first gate: fast, balanced or max", "balanced"
    )
    recipe: RungName | None = _key("--recipe", "try this rung of the accuracy ladder only")
    time_budget: float = _key(
        "--time-budget",
        "seconds after which the accuracy ladder tries nothing further; inf: it goes to its end",
        600.0,
        gt=0,
        allow_inf_nan=True,
    )
    allow_weak_float: bool = _key(
        "--allow-weak-float", "build a float model too that is near chance, or far below its calibration labels", False
    )


class BundleSpec(Frozen):
    """``[bundle]``: what a bundle carries besides its artifacts."""

    float_twin: bool = _key(
        "--float-twin", "keep the first artifact in float32 too, for `edgec validate` to compare with", False
    )


_LONGEST_VERSION = 100
"""Characters."""


def check_version(text: str) -> str:
    """A version as PEP 440 has them, of at most 100 characters."""
    if len(text) > _LONGEST_VERSION:
        raise ValueError(f"a version has {_LONGEST_VERSION} characters at most")
    try:
        Version(text)
    except InvalidVersion:
        raise ValueError(f'"{text}" is not a version as PEP 440 has them, such as 1.4 or 1.4rc1') from None
    return text


VersionText = Annotated[str, AfterValidator(check_version)]
"""A version (PEP 440) as it was written."""


class PublishSpec(Frozen):
    """``[publish]``: what a bundle is called. `edgec pull` refuses another name, and an older version."""

    name: str | None = _key(
        "--publish-name",
        "name of the bundles (default: the model's): letters, digits, dots, underscores and hyphens",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
    )
    version: VersionText | None = _key(
        "--publish-version", "version of the bundles, as PEP 440 has them (1.4, 1.4rc1, 2026.11.30)"
    )


class Project(Frozen):
    """A whole edgec.toml, merged with flags."""

    model: ModelSpec = ModelSpec()
    preprocess: Preprocess = Preprocess()
    calibration: CalibrationSpec | None = None
    evaluation: EvaluationSpec | None = None
    train: TrainSpec | None = None
    gates: Gates = Gates()
    build: BuildSpec = BuildSpec()
    bundle: BundleSpec = BundleSpec()
    publish: PublishSpec = PublishSpec()
