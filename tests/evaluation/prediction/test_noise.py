"""No two predictions share noise: seeds are hashed from the frame and the step, never added."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from noise import record_noise

from support import data_spec, write_dataset
from wamkit.contract.streams import row_seed
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.evaluation.prediction import quality
from wamkit.evaluation.prediction.quality import Actions, PredictionConfig, measure_prediction
from wamkit.imagination import unrolling
from wamkit.zoo import recipe

WINDOWS, STEPS, EPISODES = 6, 4, 2

parts = st.one_of(st.integers(-(10**6), 10**6), st.text("abcdefgh ", min_size=1))
paths = st.tuples(st.integers(0, 2**63 - 1), st.lists(parts, max_size=4).map(tuple))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_dataset(tmp_path_factory.mktemp("noise") / "data", episodes=EPISODES, length=50))


@pytest.fixture(scope="module")
def design(dataset: Dataset) -> Design:
    torch.manual_seed(0)
    built = Design(recipe("chunk_causal"), data_spec())
    built.fit(dataset, 0)
    return built.eval()


def measured(design: Design, dataset: Dataset, actions: Actions, seed: int = 0) -> None:
    config = PredictionConfig(windows=WINDOWS, batch_size=5, steps=STEPS, actions=actions, seed=seed)
    measure_prediction(design, dataset, data_spec(), config)


@pytest.mark.parametrize("actions", ["own", "demonstrated"])
def test_no_two_frames_and_steps_share_noise(
    actions: Actions, design: Design, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = record_noise(monkeypatch)
    measured(design, dataset, actions)
    calls = EPISODES * WINDOWS * (1 + STEPS)
    assert len(recorded.seeds) == calls
    assert len(recorded.draws) >= calls
    measured(design, dataset, actions, seed=1)
    assert len(recorded.seeds) == 2 * calls
    assert recorded.shared_seeds() == []
    assert recorded.shared_draws() == 0
    measured(design, dataset, actions)
    assert recorded.seeds[2 * calls :] == recorded.seeds[:calls]  # the same seed, the same noise


def test_added_seeds_would_be_noticed(
    design: Design, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The experiment can fail: sums of frames and steps meet, as they did."""
    for module in (quality, unrolling):
        monkeypatch.setattr(module, "row_seed", lambda seed, _, number: seed + 8 * number)
    recorded = record_noise(monkeypatch)
    measured(design, dataset, "own")
    assert recorded.shared_seeds()
    assert recorded.shared_draws() > 0


@given(paths, paths)
def test_seeds_of_different_paths_differ(
    one: tuple[int, tuple[int | str, ...]], two: tuple[int, tuple[int | str, ...]]
) -> None:
    (seed, path), (other_seed, other_path) = one, two
    same = (seed, *map(str, path)) == (other_seed, *map(str, other_path))
    assert (row_seed(seed, *path) == row_seed(other_seed, *other_path)) == same


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 100), st.integers(0, 100))
def test_seeds_of_seeds_do_not_meet(seed: int, frame: int, step: int, later: int) -> None:
    """A step's seed is made from its row's: neither a sum nor a second path leads to the same number."""
    row, neighbour = (row_seed(seed, "frame", f) for f in (frame, frame + 1))
    seeds = {
        seed, row, neighbour, row_seed(row, "step", step), row_seed(row, "policy", step),
        row_seed(neighbour, "step", later), row_seed(neighbour, "policy", later), row_seed(seed, "halves"),
    }  # fmt: skip
    assert len(seeds) == 8
