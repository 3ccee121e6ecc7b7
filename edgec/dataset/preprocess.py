"""From stored samples to model input: dtype, layout and ``(x / divide - mean) / std``."""

from __future__ import annotations

import numpy as np

from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import Preprocess

CHANNELS_FIRST = "channels first"


def scales(preprocess: Preprocess) -> bool:
    """Whether the user stated what becomes of values: divide, mean or std."""
    return not (preprocess.divide is None and preprocess.mean is None and preprocess.std is None)


def to_input(array: Array, spec: TensorSpec, preprocess: Preprocess, *, ready: bool) -> Array:
    """One stored sample as input `spec`.

    Args:
        array: the sample as stored.
        spec: shape (batch axis included) and dtype that the model takes.
        preprocess: the user's normalisation; applied to float inputs only.
        ready: floats are model input as they are.

    Raises:
        DatasetError: shape or dtype do not fit, raw integers would be fed unscaled, or a value is not finite.
    """
    shaped = fit_shape(array, spec)
    if np.dtype(spec.dtype).kind != "f":
        return _integers(shaped, spec)
    if shaped.dtype.kind == "b":
        return shaped.astype(spec.dtype)  # a mask: 0 and 1
    if shaped.dtype.kind != "f":
        if not scales(preprocess):
            raise DatasetError(
                f'samples are {shaped.dtype}, but input "{spec.name}" is {spec.dtype} and no scaling is stated',
                hint="[preprocess] divide = 255 for 8-bit images, or divide = 1 to use the values as they are",
            )
    elif ready:
        return _finite(_cast(shaped, spec.dtype), spec)
    return _finite(_cast(_normalize(_cast(shaped, "float32"), spec, preprocess), spec.dtype), spec)


def steps_to_input(array: Array, spec: TensorSpec, preprocess: Preprocess, *, ready: bool) -> tuple[str, ...]:
    """The steps of `to_input` as text: ``channels first``, ``/ 255``.

    Args:
        array: the stored sample.
        spec: the model input that takes it.
        preprocess: the project's ``[preprocess]``.
        ready: whether floats are model input as they are.
    """
    steps: list[str] = []
    if moves_channels(array.shape, spec.shape):
        steps.append(CHANNELS_FIRST)
    untouched = array.dtype.kind == "b" or (ready and array.dtype.kind == "f")
    if np.dtype(spec.dtype).kind != "f" or untouched:
        return tuple(steps)
    if preprocess.divide is not None:
        steps.append(f"/ {preprocess.divide:g}")
    mean, std = preprocess.mean, preprocess.std
    values = [f"{name} {_text(part)}" for name, part in (("mean", mean), ("std", std)) if part is not None]
    if values:
        formula = "(x - mean) / std" if len(values) == 2 else "x - mean" if mean is not None else "x / std"
        steps.append(f"{formula} with {', '.join(values)}")
    return tuple(steps)


def _text(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]" if len(values) > 1 else f"{values[0]:g}"


def fit_shape(array: Array, spec: TensorSpec) -> Array:
    """`array` in the shape of `spec`: singleton axes added or dropped, and channels moved first where that fits."""
    if _core(array.shape) == _core(spec.shape):
        return array.reshape(spec.shape)
    if is_channels_last(array.shape, spec.shape):
        return np.moveaxis(array.reshape(array.shape[-3:]), -1, 0).reshape(spec.shape)
    hint = ""
    if array.ndim >= 2 and _core(array.shape[1:]) == _core(spec.shape):
        hint = f"the first axis ({array.shape[0]}) looks like several samples; give them one by one"
    raise DatasetError(
        f'sample of shape {list(array.shape)} does not fit input "{spec.name}" of shape {list(spec.shape)}', hint=hint
    )


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether `fit_shape` brings a sample of `shape` to the shape `wanted`."""
    return _core(shape) == _core(wanted) or is_channels_last(shape, wanted)


def moves_channels(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether `fit_shape` moves the channels of a sample of `shape` first."""
    return _core(shape) != _core(wanted) and is_channels_last(shape, wanted)


def is_channels_last(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a sample of `shape` is HWC (or 1HWC) while the input of shape `wanted` is 1CHW."""
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    return len(shape) == 3 and len(wanted) == 4 and wanted[0] == 1 and (shape[2], shape[0], shape[1]) == wanted[1:]


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _integers(array: Array, spec: TensorSpec) -> Array:
    wanted = np.dtype(spec.dtype)
    if array.dtype.kind == "f":
        raise DatasetError(
            f'samples are {array.dtype}, but input "{spec.name}" is {spec.dtype}',
            hint=f"save them as whole numbers: x.astype({spec.dtype!r})",
        )
    if wanted.kind == "b" and array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        raise DatasetError(f'samples are {array.dtype}, but input "{spec.name}" is bool', hint="give 0 and 1 only")
    if array.size and wanted.kind != "b" and array.dtype.kind != "b":
        limits = np.iinfo(spec.dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise DatasetError(f'values from {low} to {high} do not fit {spec.dtype} of input "{spec.name}"')
    return array.astype(wanted)


def _cast(array: Array, dtype: str) -> Array:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which `_finite` refuses
        return array.astype(dtype, copy=False)


def _normalize(array: Array, spec: TensorSpec, preprocess: Preprocess) -> Array:
    if preprocess.divide is not None:
        array = array / np.float32(preprocess.divide)
    if preprocess.mean is not None:
        array = array - _per_channel(preprocess.mean, "mean", spec)
    if preprocess.std is not None:
        std = _per_channel(preprocess.std, "std", spec)
        if not np.all(std > 0):
            raise DatasetError("[preprocess] std must be above 0")
        array = array / std
    return array


def _per_channel(values: tuple[float, ...], key: str, spec: TensorSpec) -> Array:
    """`values` shaped to broadcast over the channel axis of `spec`: axis 1, or else the last."""
    constants = np.array(values, np.float32)
    if len(values) == 1:
        return constants[0:1].reshape((1,) * len(spec.shape))
    for axis in (1, len(spec.shape) - 1):
        if len(spec.shape) >= 2 and spec.shape[axis] == len(values):
            return constants.reshape([len(values) if k == axis else 1 for k in range(len(spec.shape))])
    raise DatasetError(
        f'[preprocess] {key} has {len(values)} values, but input "{spec.name}" of shape {list(spec.shape)} '
        f"has no channel axis of that size"
    )


def _finite(array: Array, spec: TensorSpec) -> Array:
    if not np.isfinite(array).all():
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise DatasetError(f'{bad} of {array.size} values of input "{spec.name}" are NaN or infinite')
    return array
