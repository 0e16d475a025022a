"""Views of a dataset: checks, samples and comparisons that several substrates share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError

FIT_FRAMES = 600  # enough for the leading components of 64 px patches; more changes the PSNR by under 0.1 dB


def chosen_cameras(cameras: tuple[str, ...], data: DataSpec, reader: str) -> tuple[str, ...]:
    """The named cameras, or all; raises :class:`ConfigError` when there is none or one is unknown."""
    for camera in cameras:
        data.camera(camera, reader)
    if not data.observation.cameras:
        raise ConfigError(f"{reader}: the dataset has no camera. Choose another substrate.")
    return cameras or tuple(sorted(data.observation.cameras))


def check_grid(kind: str, camera: str, grid: int, data: DataSpec, reader: str) -> str:
    """Name of the extra of one view; raises :class:`ConfigError` when it is missing or the grid does not fit."""
    data.camera(camera, reader)
    height, width = data.extra(f"{kind}.{camera}", reader)
    if height % grid or width % grid:
        raise ConfigError(
            f"{reader}: camera {camera!r} has {height} x {width} pixels, which a grid of {grid} does not divide. "
            f"Choose another `grid`."
        )
    return f"{kind}.{camera}"


def sample_frames(windows: Windows, count: int, seed: int) -> Observation:
    """Frames drawn at random from the whole dataset, as one observation of one step each: (count, 1, ...)."""
    rng = np.random.default_rng(seed)
    index = rng.choice(windows.num_frames, size=min(count, windows.num_frames), replace=False)
    return windows.windows(np.sort(index), WindowSpec(horizon=1)).observation


def first_pose(observation: Observation, name: str) -> Tensor:
    """Poses (B, T, 7) of an extra; where it holds those of several objects, the first object's."""
    pose = observation.extras[name].float()
    return pose[:, :, 0] if pose.dim() == 4 else pose


def since_now(
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray], before: np.ndarray, later: np.ndarray
) -> np.ndarray:
    """``compare`` of the picture of "now", (B, 1, ...), with each later one, (B, T, ...); stacked to (B, T, ...)."""
    pairs = zip(before, later, strict=True)
    return np.stack([np.stack([compare(start[0], end) for end in ends]) for start, ends in pairs])
