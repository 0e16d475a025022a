"""Small synthetic episodes with images that a video codec can keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import DatasetWriter, Episode, Storage
from wamkit.data.files import DEFAULT_STORAGE

OBSERVATION = ObservationSpec(
    cameras={"scene": CameraSpec(16, 24), "gripper": CameraSpec(16, 16)},
    state=("x_m", "y_m", "z_m"),
    rate_hz=80,
)
ACTION = ActionSpec(
    names=("dx", "close"), low=(-1, -1), high=(1, 1), rate_hz=80, rotation="none", gripper="positive_closes"
)
SMALL = Storage(data_file_mb=0.015, video_file_mb=0.006, chunks_size=2)  # files of a few episodes
EXTRAS = {"depth": ((4, 6), "float32"), "contact": ((), "float64"), "pose": ((7,), "float32")}


def pictures(frames: int, height: int, width: int, shade: int) -> np.ndarray:
    """Smooth frames whose brightness tells episode and time apart: (T, H, W, 3)."""
    x, y = np.linspace(0, 60, width), np.linspace(0, 60, height)
    plane = (x[None, :] + y[:, None])[None, :, :, None] + np.array([0, 20, 40])
    time = (shade * 37 + np.arange(frames) * 5) % 90
    return (plane + time[:, None, None, None]).astype(np.uint8)


def episode(frames: int, number: int = 0, task: str = "open the drawer", success: bool = True) -> Episode:
    rng = np.random.default_rng(number)
    return Episode(
        images={n: pictures(frames, c.height, c.width, number) for n, c in OBSERVATION.cameras.items()},
        state=rng.normal(size=(frames, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (frames, 2)).astype(np.float32),
        task=task,
        success=success,
        extras={
            "depth": rng.normal(size=(frames, 4, 6)).astype(np.float32),
            "contact": rng.normal(size=frames),
            "pose": rng.normal(size=(frames, 7)).astype(np.float32),
        },
    )


def record(
    root: Path, episodes: list[Episode], storage: Storage = DEFAULT_STORAGE, overwrite: bool = False
) -> Path:
    with DatasetWriter(
        root, OBSERVATION, ACTION, extras=EXTRAS, overwrite=overwrite, storage=storage
    ) as writer:
        for item in episodes:
            writer.add(item)
    return root


def varied(lengths: list[int]) -> list[Episode]:
    return [episode(t, i, task=f"task {i % 2}", success=i % 3 != 1) for i, t in enumerate(lengths)]
