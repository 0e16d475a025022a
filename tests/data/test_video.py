"""The same frames are the same bytes: datasets can be compared by digest."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from wamkit.data.video import Coding, encode_video


def test_encoding_is_repeatable_whatever_the_memory_held() -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8)
    images = np.stack([np.roll(texture, k // 3, axis=1) + np.uint8(k) for k in range(60)])
    first = encode_video(images, Coding(Fraction(80)))
    held = []
    for k in range(200):
        held.append(rng.bytes(4096 * (k % 7)))  # moves the encoder's buffers to memory of other content
        assert encode_video(images, Coding(Fraction(80))) == first, f"encoding {k}"
