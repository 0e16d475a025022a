"""Tiny data without a simulator: specs, statistics, batches and a windowed toy dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from wamkit.contract.data import DataSpec
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.data import DatasetWriter, Episode

SIZE = 32
# Names that are words of torch or Python, or mean something to a format, a path or a console.
ODD_NAMES = (
    "rgb.head",
    "type",
    "keys",
    "forward",
    "items",
    "train",
    "a b",
    "ä",
    "__class__",
    "a.b",
    "%",
    "[red]",
    "T_destination",
    "%s",
)


def data_spec() -> DataSpec:
    rng = np.random.default_rng(0)
    observation = ObservationSpec(
        {"scene": CameraSpec(SIZE, SIZE), "gripper": CameraSpec(SIZE, SIZE)},
        ("x_m", "y_m", "z_m", "open"),
        40.0,
    )
    action = ActionSpec(("dx", "dy", "dz", "grip"), (-1.0,) * 4, (1.0,) * 4, 40.0)

    def stats(width: int) -> dict[str, np.ndarray]:
        x = rng.uniform(-1, 1, (500, width))
        quantiles = {f"q{q:02d}": np.quantile(x, q / 100, axis=0) for q in (1, 10, 50, 90, 99)}
        moments = {"mean": x.mean(0), "std": x.std(0), "min": x.min(0), "max": x.max(0)}
        return {**moments, **quantiles}

    return DataSpec(observation, action, {"action": stats(4), "observation.state": stats(4)})


class ToyWindows:
    """One long random episode of smooth frames, states and actions."""

    def __init__(self, frames: int = 400, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.num_frames = frames
        phase = np.linspace(0, 20, frames)[:, None]
        self.state = np.sin(phase + np.arange(4)).astype(np.float32)
        self.action = np.cos(phase * 1.3 + np.arange(4)).astype(np.float32)
        yy, xx = np.mgrid[0:SIZE, 0:SIZE] / SIZE
        self.images = {}
        for camera in ("gripper", "scene"):
            base = rng.integers(0, 80, (3, SIZE, SIZE))
            centre = (self.state[:, :2, None, None] + 1) / 2
            blob = np.exp(-((yy - centre[:, 0]) ** 2 + (xx - centre[:, 1]) ** 2) / 0.02) * 170
            self.images[camera] = (base[None] + blob[:, None]).clip(0, 255).astype(np.uint8)

    def _observe(self, steps: np.ndarray, tasks: tuple[str, ...]) -> Observation:
        inside = steps.clip(0, self.num_frames - 1)
        return Observation(
            images={c: torch.from_numpy(v[inside]) for c, v in self.images.items()},
            state=torch.from_numpy(self.state[inside]),
            task=tasks,
            pad=torch.from_numpy(steps != inside),
        )

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        index = np.asarray(index)
        tasks = tuple(("push it", "pull it")[i % 2] for i in index)
        actions = index[:, None] + np.arange(-spec.past_actions, spec.horizon)
        inside = actions.clip(0, self.num_frames - 1)
        return Batch(
            observation=self._observe(index[:, None] + np.array(spec.observation), tasks),
            action=torch.from_numpy(self.action[inside]),
            action_pad=torch.from_numpy(actions != inside),
            past=spec.past_actions,
            future=self._observe(index[:, None] + np.array(spec.future), tasks) if spec.future else None,
            goal=self._observe(np.full((len(index), 1), self.num_frames - 1), tasks) if spec.goal else None,
            index=torch.from_numpy(index),
        )


def acting_observation(windows: ToyWindows, index: list[int], spec: WindowSpec) -> Observation:
    """What a runner would hand to a design at these frames."""
    batch = windows.windows(np.array(index), spec)
    obs = batch.observation
    if not spec.past_actions:
        return obs
    return Observation(
        images=obs.images,
        state=obs.state,
        task=obs.task,
        pad=obs.pad,
        past_action=batch.action[:, : spec.past_actions],
        past_action_pad=batch.action_pad[:, : spec.past_actions],
    )


def write_dataset(root: Path, episodes: int = 3, length: int = 30) -> Path:
    """A small LeRobot dataset of smooth frames."""
    spec = data_spec()
    with DatasetWriter(root, spec.observation, spec.action) as writer:
        for i in range(episodes):
            toy = ToyWindows(length + i, seed=i)
            images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
            writer.add(Episode(images, toy.state, toy.action, ("push it", "pull it")[i % 2]))
    return root
