"""Recordings that systems are checked on, two short episodes each: the benchmark, sound and touch, absolute poses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from cases import Case

from wamkit.api import CollectConfig, collect
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.zoo.registry import systems

FRAMES, SIDE = 40, 32


def benchmark(root: Path) -> None:
    """Demonstrations of the embedded benchmark with all ground truth."""
    config = CollectConfig(
        out=root,
        tasks=("button-press-topdown-v3",),
        episodes=2,
        image_size=SIDE,
        record=RECORDABLE,
        workers=1,
    )
    collect(config, progress=False)


def senses(root: Path) -> None:
    """Noise with a microphone and a tactile camera."""
    rng = np.random.default_rng(0)
    extras = {"audio": ((1664,), "float32"), "tactile": ((16, 16, 3), "uint8"), "wrench": ((6,), "float32")}
    action = ActionSpec(("dx", "dy"), (-1.0, -1.0), (1.0, 1.0), 10.0, mode="delta")
    with DatasetWriter(root, _seen(), action, extras=extras) as writer:
        for _ in range(2):
            sensed = {
                "audio": rng.uniform(-0.5, 0.5, (FRAMES, 1664)).astype(np.float32),
                "tactile": rng.integers(0, 256, (FRAMES, 16, 16, 3), dtype=np.uint8),
                "wrench": rng.normal(size=(FRAMES, 6)).astype(np.float32),
            }
            writer.add(Episode(*_moved(rng, 2), "rub it", extras=sensed))


def poses(root: Path) -> None:
    """Absolute end-effector poses in 6D rotation form."""
    rng = np.random.default_rng(0)
    names = ("x", "y", "z", *(f"r{i}" for i in range(6)), "grip")
    action = ActionSpec(names, (-1.0,) * 10, (1.0,) * 10, 10.0, mode="absolute", rotation="rot6d")
    with DatasetWriter(root, _seen(), action) as writer:
        for _ in range(2):
            writer.add(Episode(*_moved(rng, 10), "move"))


def _seen() -> ObservationSpec:
    return ObservationSpec({"scene": CameraSpec(SIDE, SIDE)}, ("x_m", "y_m"), 10.0)


def _moved(rng: np.random.Generator, width: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    frames = rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    state = rng.uniform(-1, 1, (FRAMES, 2)).astype(np.float32)
    return {"scene": frames}, state, rng.uniform(-1, 1, (FRAMES, width)).astype(np.float32)


RECORDERS: Mapping[str, Callable[[Path], None]] = {"benchmark": benchmark, "senses": senses, "poses": poses}


@functools.cache
def opened(kind: str, folder: Path) -> Dataset:
    """The recordings of a kind, made in ``folder`` when they are not there yet."""
    root = folder / kind
    if not root.exists():
        RECORDERS[kind](root)
    return Dataset(root, extras=tuple(data_spec(Dataset(root)).extras))


def case_of(name: str, folder: Path) -> Case:
    """The system of this name with its recordings, which are made in ``folder`` once."""
    found = systems()[name]
    return Case(found, opened(found.data, folder))
