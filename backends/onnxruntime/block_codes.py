"""Weights as 4- or 8-bit codes: per channel for QDQ weights, in blocks for MatMulNBits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgec.model.spec import Array

Bits = Literal[4, 8]
_ON_GRID = 1e-3
"""How near to whole numbers codes are that were codes before: float32 rounds scale and product to about 1e-5."""


@dataclass(frozen=True)
class BlockCodes:
    """A matrix as MatMulNBits reads it, output channels first.

    Attributes:
        packed: uint8 [N, blocks, block bytes]; of two 4-bit codes in a byte the first has the low bits.
        scales: float32 [N, blocks].
        zero_points: uint8 [N, bytes of all blocks], packed likewise; None where the middle code is zero throughout.
    """

    packed: Array
    scales: Array
    zero_points: Array | None


def largest_code(bits: Bits) -> int:
    """127 or 7: symmetric grids leave the lowest code unused."""
    return int(2 ** (bits - 1) - 1)


def channel_codes(weight: Array, axis: int, bits: Bits) -> tuple[Array, Array]:
    """Symmetric codes with one scale for each index of `axis`: ``scale = max|w| / largest_code``.

    Args:
        weight: of a layer.
        axis: of its output channels.
        bits: width of the codes.

    Returns:
        int8 codes of the weight's shape, and float32 scales [channels].
    """
    others = tuple(k for k in range(weight.ndim) if k != axis)
    scales = _scale(np.abs(weight).max(axis=others), bits)
    shape = [-1 if k == axis else 1 for k in range(weight.ndim)]
    codes = np.rint(weight / scales.reshape(shape)).clip(-largest_code(bits), largest_code(bits))
    return codes.astype(np.int8), scales


def block_codes(weight: Array, block_size: int, bits: Bits) -> BlockCodes:
    """Codes in blocks of `block_size` inputs; for 4 bits affine, which is 2 dB nearer than symmetric.

    A channel that lies on the symmetric grid of the whole channel already (by training or adaptive rounding for it)
    keeps these codes in all its blocks.

    Args:
        weight: float32 [N, K], output channels first.
        block_size: inputs that share a scale; the last block is padded with zeros.
        bits: 4 or 8.
    """
    channels, inputs = weight.shape
    blocks = -(-inputs // block_size)
    parts = np.pad(weight, ((0, 0), (0, blocks * block_size - inputs))).reshape(channels, blocks, block_size)
    limit, middle = largest_code(bits), 2 ** (bits - 1)
    whole = _scale(np.abs(weight).max(axis=1), bits)[:, None]
    steps = weight / whole
    kept = (np.abs(steps - np.rint(steps)) < _ON_GRID).all(axis=1)[:, None]
    zeros = np.full((channels, blocks), middle, np.uint8)
    if bits == 4:
        low, high = np.minimum(parts.min(axis=2), 0), np.maximum(parts.max(axis=2), 0)
        scales = np.where(high > low, (high - low) / np.float32(15), np.float32(1))
        zeros = np.where(kept, zeros, np.rint(-low / scales).astype(np.uint8))
        lowest, highest = 0, 15
    else:
        scales = _scale(np.abs(parts).max(axis=2), bits)
        lowest, highest = middle - limit, middle + limit
    scales = np.where(kept, whole, scales).astype(np.float32)
    codes = np.rint(parts / scales[:, :, None]) + zeros[:, :, None]
    packed = codes.clip(lowest, highest).astype(np.uint8)
    affine = bool((zeros != middle).any())
    return BlockCodes(_packed(packed, bits), scales, _packed(zeros, bits) if affine else None)


def nibbles(codes: Array) -> bytes:
    """Signed 4-bit codes two to a byte, as ONNX stores INT4 tensors."""
    flat = codes.reshape(-1).astype(np.uint8) & 15
    return bytes(_packed(flat[None], 4)[0])


def _packed(codes: Array, bits: Bits) -> Array:
    """Codes of 4 bits two to a byte along the last axis, the first in the low bits."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], axis=-1)
    packed: Array = codes[..., 0::2] | codes[..., 1::2] << 4
    return packed


def _scale(largest: Array, bits: Bits) -> Array:
    scales: Array = np.where(largest > 0, largest / np.float32(largest_code(bits)), np.float32(1)).astype(np.float32)
    return scales
