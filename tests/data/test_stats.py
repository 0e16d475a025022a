import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from recordings import EXTRAS, varied

from wamkit.data import Dataset, rebuild_stats
from wamkit.data.stats import QUANTILES, FeatureStats, PixelCounts, vector_stats


def truth(values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics over the first axis, straight from numpy."""
    simple = {name: getattr(np, name)(values, axis=0) for name in ("mean", "std", "min", "max")}
    return simple | {name: np.quantile(values, q, axis=0) for name, q in QUANTILES.items()}


def check_equal(stats: FeatureStats, values: np.ndarray, shape: tuple[int, ...], count: int) -> None:
    assert stats.count == count
    for name, expected in truth(values.astype(np.float64)).items():
        got = getattr(stats, name)
        assert got.shape == shape
        np.testing.assert_allclose(got.ravel(), expected.ravel(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_vectors_against_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(101, 3))
    check_equal(vector_stats(values), values, (3,), 101)
    check_equal(vector_stats(values[:, 0]), values[:, :1], (1,), 101)
    check_equal(vector_stats(values[:1]), values[:1], (3,), 1)


@pytest.mark.parametrize(("frames", "levels"), [(1, 256), (3, 256), (7, 4), (5, 1)])
def test_image_quantiles_are_exact(frames: int, levels: int) -> None:
    images = np.random.default_rng(1).integers(0, levels, (frames, 4, 5, 3)).astype(np.uint8)
    counts = PixelCounts()
    for image in images:
        counts.add(image[None])
    check_equal(counts.stats(), images.reshape(-1, 3) / 255.0, (3, 1, 1), frames)


def test_dataset_statistics_cover_all_episodes(recorded: Path) -> None:
    episodes = varied([5, 9, 4])
    data = Dataset(recorded)
    check_equal(data.stats["action"], np.concatenate([e.action for e in episodes]), (2,), 18)
    check_equal(data.stats["observation.state"], np.concatenate([e.state for e in episodes]), (3,), 18)
    pixels = np.concatenate([e.images["scene"] for e in episodes]).reshape(-1, 3) / 255.0
    check_equal(data.stats["observation.images.scene"], pixels, (3, 1, 1), 18)
    stored = json.loads((recorded / "meta/stats.json").read_text())
    depth = np.concatenate([e.extras["depth"] for e in episodes])
    assert np.ravel(stored["extra.depth"]["mean"]) == pytest.approx(depth.mean(dtype=np.float64))
    assert {f"extra.{name}" for name in EXTRAS} <= set(stored)


def test_rebuilding_gives_the_same_numbers(recorded: Path) -> None:
    before = Dataset(recorded).stats
    (recorded / "meta/stats.json").unlink()
    rebuild_stats(recorded)
    after = Dataset(recorded).stats
    assert set(before) == set(after)
    for key, stats in before.items():
        # Images are read back from the video, everything else from the tables.
        slack = 0.03 if "images" in key else 0.0
        for field in dataclasses.fields(stats):
            np.testing.assert_allclose(
                getattr(after[key], field.name), getattr(stats, field.name), atol=slack
            )
