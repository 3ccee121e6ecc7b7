"""Fourier transforms as products with cosines and sines: no backend has complex numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn import functional

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, as_dtype, axis_of, scalar
from edgec.model.onnx_torch.recorder import Value

MAX_LENGTH = 4096
"""Longer transforms would need matrices of more than 128 MB."""


def _waves(length: int, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of [length, bins]."""
    if length > MAX_LENGTH:
        raise NoTorchFormError(f"a Fourier transform of length {length} is too long to be a product")
    # whole turns are taken out before the angle is made, in exact integers
    turns = torch.outer(torch.arange(length), torch.arange(bins)) % length
    angles = turns.to(torch.float64) * (2 * math.pi / length)
    return torch.cos(angles).to(torch.float32), torch.sin(angles).to(torch.float32)


def _dft(call: Call) -> Value:
    value = call[0]
    rank = value.ndim
    if call.opset >= 20:
        axis = -2 if call[2] is None else int(scalar(call.constant(2, "axis")))
    else:
        axis = call.get("axis", 1)
    axis = axis_of(axis, rank)
    length = value.shape[axis] if call[1] is None else int(scalar(call.constant(1, "dft_length")))
    bins = length // 2 + 1 if call.get("onesided", 0) else length
    cosines, sines = _waves(length, bins)
    parts = [_prepared(value[..., index], axis, length) for index in range(value.shape[-1])]
    real, imaginary = torch.matmul(parts[0], cosines), torch.matmul(parts[0], -sines)
    inverse = bool(call.get("inverse", 0))
    if inverse:
        imaginary = torch.matmul(parts[0], sines)
    if len(parts) == 2:
        turned = torch.matmul(parts[1], -sines if inverse else sines)
        real = torch.add(real, turned)
        imaginary = torch.add(imaginary, torch.matmul(parts[1], cosines))
    result = torch.stack([torch.transpose(item, axis, -1) for item in (real, imaginary)], -1)
    return torch.div(result, float(length)) if inverse else result


def _prepared(value: Value, axis: int, length: int) -> Value:
    """`value` with its axis last, cut or padded to `length`."""
    value = torch.transpose(value, axis, -1)
    missing = length - value.shape[-1]
    return functional.pad(value, [0, missing]) if missing else value


def _stft(call: Call) -> Value:
    value, step = call[0], int(scalar(call.constant(1, "frame_step")))
    window = None if call[2] is None else call.constant(2, "window")
    given = call[3]
    if given is not None:
        length = int(scalar(call.constant(3, "frame_length")))
    else:
        length = value.shape[1] if window is None else window.numel()
    bins = length // 2 + 1 if call.get("onesided", 1) else length
    cosines, sines = _waves(length, bins)
    if window is not None:
        cosines, sines = cosines * window[:, None], sines * window[:, None]
    # one convolution gives real and imaginary parts of all frames
    kernel = torch.cat([cosines.t(), -sines.t()])[:, None].contiguous()
    signal = torch.reshape(value, [value.shape[0], *value.shape[1:]]) if value.ndim == 3 else torch.unsqueeze(value, 2)
    parts = [_framed(call, signal[..., index], kernel, step) for index in range(signal.shape[2])]
    real, imaginary = parts[0][:, :bins], parts[0][:, bins:]
    if len(parts) == 2:
        real = torch.sub(real, parts[1][:, bins:])
        imaginary = torch.add(imaginary, parts[1][:, :bins])
    return torch.stack([torch.transpose(real, 1, 2), torch.transpose(imaginary, 1, 2)], -1)


def _framed(call: Call, signal: Value, kernel: torch.Tensor, step: int) -> Value:
    layer = torch.nn.Conv1d(1, kernel.shape[0], kernel.shape[2], step, bias=False, device="meta")
    return call.layer(call.weighted(layer, weight=kernel), torch.unsqueeze(signal, 1))


def _window(first: float, second: float, third: float) -> Converter:
    """Windows ``first - second cos(x) + third cos(2x)``."""

    def convert(call: Call) -> Value:
        size = int(scalar(call.constant(0, "size")))
        whole = size if call.get("periodic", 1) else size - 1
        angles = torch.arange(size, dtype=torch.float64) * (2 * math.pi / max(whole, 1))
        values = first - second * torch.cos(angles) + third * torch.cos(2 * angles)
        return values.to(as_dtype(call.get("output_datatype", 1)))

    return convert


def _mel_weights(call: Call) -> Value:
    bins, length, rate = (int(scalar(call.constant(index, "size"))) for index in (0, 1, 2))
    low, high = (float(scalar(call.constant(index, "edge"))) for index in (3, 4))
    spectrum = length // 2 + 1
    mel_low, mel_high = (2595 * math.log10(1 + edge / 700) for edge in (low, high))
    steps = mel_low + torch.arange(bins + 2, dtype=torch.float64) * ((mel_high - mel_low) / (bins + 2))
    places = (((length + 1) * (700 * (10 ** (steps / 2595) - 1))) / rate).floor().to(torch.int64).tolist()
    matrix = torch.zeros(spectrum, bins)
    for index in range(bins):
        left, middle, right = places[index : index + 3]
        if middle == left:
            matrix[middle, index] = 1
        for place in range(left, middle + 1) if middle > left else ():
            matrix[place, index] = (place - left) / (middle - left)
        for place in range(middle, right) if right > middle else ():
            matrix[place, index] = (right - place) / (right - middle)
    return matrix.to(as_dtype(call.get("output_datatype", 1)))


CONVERTERS: Mapping[str, Converter] = {
    "BlackmanWindow": _window(0.42, 0.5, 0.08),
    "DFT": _dft,
    "HammingWindow": _window(25 / 46, 21 / 46, 0.0),
    "HannWindow": _window(0.5, 0.5, 0.0),
    "MelWeightMatrix": _mel_weights,
    "STFT": _stft,
}
"""Op -> converter."""
