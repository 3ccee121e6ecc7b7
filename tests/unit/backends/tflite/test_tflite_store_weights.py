"""Codes of stored weights: packing, and scales of blocks on a trained channel's grid."""

from __future__ import annotations

import numpy as np

from edgec.backends.tflite.store_weights import Storage, block_scales, packed

RANDOM = np.random.default_rng(0)


def test_two_codes_a_byte_the_first_in_the_low_half() -> None:
    assert packed(np.array([1, -1, 7, -7, 3], np.int8)).tolist() == [0xF1, 0x97, 0x03]


def test_weights_on_their_channels_grid_lose_nothing_in_blocks() -> None:
    storage = Storage(4, block=16)
    codes = RANDOM.integers(-3, 4, (4, 32)).astype(np.float32)
    codes[:, 0] = 7  # only the first block of each channel reaches the end of the grid
    weight = codes * np.linspace(0.1, 0.4, 4, dtype=np.float32)[:, None]
    scales = block_scales(weight, weight.reshape(-1, 16), storage)
    restored = np.rint(weight.reshape(-1, 16) / scales[:, None]) * scales[:, None]
    np.testing.assert_allclose(restored.reshape(weight.shape), weight, rtol=1e-6)


def test_blocks_of_other_weights_have_scales_of_their_own() -> None:
    weight = RANDOM.standard_normal((4, 32)).astype(np.float32)
    weight[:, :16] *= 10
    scales = block_scales(weight, weight.reshape(-1, 16), Storage(4, block=16)).reshape(4, 2)
    assert (scales[:, 0] > 3 * scales[:, 1]).all()
