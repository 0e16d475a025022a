"""Peak signal-to-noise ratio of imagined pictures against real ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wamkit.errors import DataError

MOST_DB = 100.0  # cap where ratios are averaged: equal pictures have an infinite ratio


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every picture (M, ...) with values in [0, 1], dB, (M,).

    Equal pictures have an infinite ratio.

    Raises:
        DataError: the shapes differ.
    """
    # Not at the top: the import takes two seconds.
    from torchmetrics.functional.image import peak_signal_noise_ratio

    if images.shape != truth.shape:
        raise DataError(
            f"psnr: the images differ in shape, {tuple(images.shape)} against {tuple(truth.shape)}."
        )
    pixels = tuple(range(1, truth.ndim))
    return torch.as_tensor(
        peak_signal_noise_ratio(images, truth, data_range=1.0, reduction="none", dim=pixels)
    )


def frame_psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float | None:
    """PSNR of one uint8 picture, dB; None for equal pictures.

    Raises:
        DataError: the shapes differ.
    """
    ratio = psnr(*(torch.from_numpy(np.divide(frame, 255.0))[None] for frame in (image, truth))).item()
    return None if ratio == float("inf") else ratio


def mean_psnr(images: Tensor, truth: Tensor) -> float:
    """Mean PSNR of uint8 pictures (M, ...), dB, each capped at :data:`MOST_DB`.

    Raises:
        DataError: the shapes differ.
    """
    ratios = psnr(images.cpu().double() / 255, truth.cpu().double() / 255)
    return ratios.clamp(max=MOST_DB).mean().item()
