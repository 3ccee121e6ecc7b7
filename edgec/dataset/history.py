"""The steps from a stored sample to a model input, as text for manifest, report and terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.dataset.preprocess import CHANNELS_FIRST, moves_channels, scales, steps_to_input
from edgec.dataset.sample_source import Row, SampleSource
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import Preprocess


def history(
    row: Row,
    inputs: tuple[TensorSpec, ...],
    arrays: Sequence[Array],
    preprocess: Preprocess,
    source: SampleSource,
    index: int,
) -> Iterator[str]:
    """The steps of sample `index`, a line for each input: ``48x64 RGB -> center crop 64x64 -> / 255 -> ...``.

    Args:
        row: the stored sample.
        inputs: specs of the model's inputs.
        arrays: the sample as fed, in the order of `inputs`.
        preprocess: the project's ``[preprocess]``.
        source: of the sample.
        index: of the sample in its source.
    """
    for item, array in zip(inputs, arrays, strict=True):
        stored = row[item.name]
        is_image = source.is_image(index)
        steps = source.steps(index) if is_image else (f"{stored.dtype} [{','.join(map(str, stored.shape))}]",)
        applied = steps_to_input(stored, item, preprocess, ready=source.ready)
        steps += applied[1:] if is_image and applied[:1] == (CHANNELS_FIRST,) else applied
        name = f"{item.name}: " if len(inputs) > 1 else ""
        shape = ",".join(map(str, item.shape))
        span = f", {float(array.min()):.4g} to {float(array.max()):.4g}" if array.size else ""
        yield f"{name}{' -> '.join(steps)} -> {item.dtype} [{shape}]{span}"


def assumptions(
    row: Row, inputs: tuple[TensorSpec, ...], preprocess: Preprocess, source: SampleSource, index: int
) -> Iterator[str]:
    """Assumptions made when sample `index` was converted to model input, a line each.

    Args:
        row: the stored sample.
        inputs: specs of the model's inputs.
        preprocess: the project's ``[preprocess]``.
        source: of the sample.
        index: of the sample in its source.
    """
    for item in inputs:
        array = row[item.name]
        if moves_channels(array.shape, item.shape):
            yield f'input "{item.name}": channels moved first ({list(array.shape)} -> {list(item.shape)})'
        if (item.dtype == "bool") != (array.dtype.kind == "b"):
            yield f'input "{item.name}": {array.dtype} samples of 0 and 1 are taken as {item.dtype}'
        if item.dtype.startswith("float") and scales(preprocess) and source.ready and array.dtype.kind == "f":
            yield f'input "{item.name}": [preprocess] is not applied to floats of a Python entry'
    if preprocess.resize is not None and not source.is_image(index):
        yield "[preprocess] resize is not applied: the samples are arrays"
