"""Sensor noise: graded, seeded, and each kind does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.envs.perturbations import Perturbation, Shutter
from wamkit.envs.perturbations.sensor import SensorPerturbation
from wamkit.errors import ConfigError

KINDS = sorted(
    name
    for name in Perturbation.get_known_choices()
    if issubclass(Perturbation.get_choice_class(name), SensorPerturbation)
)


def scene(size: int = 48) -> np.ndarray:
    """Smooth ground with two sharp things on it."""
    y, x = np.mgrid[0:size, 0:size]
    picture = np.stack((40 + 2 * x, 60 + 2 * y, 90 + x + y), axis=-1)
    picture[10:20, 10:20] = (250, 20, 20)
    picture[30:34, 5:45] = (10, 10, 200)
    return np.clip(picture, 0, 255).astype(np.uint8)


def shown(kind: str, strength: int, seed: int, frames: int = 1) -> list[np.ndarray]:
    part = Perturbation.get_choice_class(kind)(strength=strength)
    found: list[np.ndarray] = []
    for k in range(frames):
        shutter = taking(seed, k, found[-1] if found else None)
        found.append(part.on_picture(np.roll(scene(), k, axis=1), shutter))
    return found


def taking(seed: int, tick: int = 0, previous: np.ndarray | None = None) -> Shutter:
    return Shutter(np.random.default_rng([seed, tick]), np.random.default_rng(seed), previous)


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_is_further_away(kind: str) -> None:
    frames = 12 if kind == "dropped_frames" else 3
    clean = [np.roll(scene(), k, axis=1).astype(float) for k in range(frames)]
    distances = []
    for strength in range(1, 6):
        seeds = [
            np.mean(
                [np.abs(a - b).mean() for a, b in zip(clean, shown(kind, strength, s, frames), strict=True)]
            )
            for s in range(8)
        ]
        distances.append(np.mean(seeds))
    assert distances[0] > 0
    assert np.all(np.diff(distances) > 0), distances


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), strength=st.integers(1, 5))
def test_the_same_seed_shows_the_same_pictures(kind: str, seed: int, strength: int) -> None:
    first, again = shown(kind, strength, seed, 3), shown(kind, strength, seed, 3)
    assert all(
        (a == b).all() and a.dtype == np.uint8 and a.shape == scene().shape
        for a, b in zip(first, again, strict=True)
    )


def test_noise_has_the_stated_deviation() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    part = Perturbation.get_choice_class("gaussian_noise")(strength=2)
    noisy = part.on_picture(grey, taking(0))
    assert np.std(noisy.astype(float)) == pytest.approx(40.0, rel=0.02)


def test_blur_keeps_the_mean_and_moves_it_nowhere() -> None:
    spot = np.zeros((65, 65, 3), np.uint8)
    spot[32, 32] = 255
    wide = np.repeat(np.repeat(spot[24:41, 24:41], 1, 0), 1, 1)
    for kind in ("motion_blur", "defocus"):
        blurred = Perturbation.get_choice_class(kind)(strength=1).on_picture(wide, taking(1))
        y, x = np.mgrid[0:17, 0:17]
        weights = blurred[..., 0].astype(float)
        assert (weights * y).sum() / weights.sum() == pytest.approx(8, abs=0.6)
        assert (weights * x).sum() / weights.sum() == pytest.approx(8, abs=0.6)


def test_dropped_frames_repeat_the_last_that_arrived() -> None:
    frames = shown("dropped_frames", 5, 3, 40)
    clean = [np.roll(scene(), k, axis=1) for k in range(40)]
    repeated = [k for k in range(1, 40) if (frames[k] == frames[k - 1]).all()]
    arrived = [k for k in range(40) if (frames[k] == clean[k]).all()]
    assert 0 in arrived
    assert sorted(repeated + arrived) == list(range(40))
    assert len(repeated) / 39 == pytest.approx(0.9, abs=0.15)


def test_dead_pixels_stay_where_they_are() -> None:
    frames = shown("dead_pixels", 5, 0, 4)
    clean = [np.roll(scene(), k, axis=1) for k in range(4)]
    dead = [
        np.all((f == 0) | (f == 255), axis=-1) & (f != c).any(axis=-1)
        for f, c in zip(frames, clean, strict=True)
    ]
    always = dead[0] & dead[1] & dead[2] & dead[3]
    assert always.mean() == pytest.approx(0.3, abs=0.04)
    assert all((d & ~always).mean() < 0.01 for d in dead)


def test_strength_has_limits() -> None:
    with pytest.raises(ConfigError, match=r"Fog\.strength: must be at least 0 and at most 5, got 6"):
        Perturbation.get_choice_class("fog")(strength=6)
