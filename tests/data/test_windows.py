import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import record, varied

from wamkit.contract.types import Aim, WindowSpec
from wamkit.data import Dataset
from wamkit.data.milestones import milestones
from wamkit.errors import DataError

EPISODES = varied([1, 7, 3, 12])


@cache
def dataset() -> Dataset:
    """One dataset for all examples; its frames are decoded before the folder goes."""
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(record(Path(folder) / "set", EPISODES), extras=("contact",))
        data.windows(np.array([0]), WindowSpec())
    return data


@settings(max_examples=60, deadline=None)
@given(
    past=st.integers(0, 15),
    horizon=st.integers(1, 15),
    history=st.sets(st.integers(-15, -1), max_size=3),
    future=st.sets(st.integers(1, 15), max_size=3),
    goal=st.booleans(),
    aim=st.sampled_from(["end", "next"]),
    index=st.lists(st.integers(0, 22), min_size=1, max_size=4),
)
def test_windows_stay_inside_their_episode(
    past: int, horizon: int, history: set[int], future: set[int], goal: bool, aim: Aim, index: list[int]
) -> None:
    spec = WindowSpec((*sorted(history), 0), past, horizon, tuple(sorted(future)), goal, aim=aim)
    batch = dataset().windows(np.array(index), spec)
    for row, now in enumerate(index):
        owner = next(e for e in dataset().episodes if e.start <= now < e.stop)
        source, here = EPISODES[owner.index], now - owner.start
        last = len(source) - 1

        for column, offset in enumerate(range(-past, horizon)):
            inside = 0 <= here + offset <= last
            nearest = min(max(here + offset, 0), last)
            assert batch.action_pad[row, column].item() is not inside
            np.testing.assert_array_equal(batch.action[row, column], source.action[nearest])
        parts = [(batch.observation, spec.observation), (batch.future, spec.future)]
        for part, offsets in parts:
            assert (part is None) == (not offsets)
            for column, offset in enumerate(offsets):
                nearest = min(max(here + offset, 0), last)
                assert part is not None
                assert part.pad[row, column].item() is not (0 <= here + offset <= last)
                np.testing.assert_array_equal(part.state[row, column], source.state[nearest])
                np.testing.assert_array_equal(
                    part.extras["contact"][row, column], source.extras["contact"][nearest]
                )
                mean = part.images["scene"][row, column].float().mean().item()
                assert mean == pytest.approx(source.images["scene"][nearest].mean(), abs=2.0)
                assert part.task[row] == source.task
        assert (batch.goal is not None) == goal
        if batch.goal is not None:
            marks = milestones(source.action, dataset().action_spec)
            aimed = last if aim == "end" else min((m for m in marks if m > here), default=last)
            np.testing.assert_array_equal(batch.goal.state[row, 0], source.state[aimed])
            assert not batch.goal.pad.any()


def test_the_next_goal_passes_every_milestone_and_ends_at_the_end() -> None:
    """The longest episode has milestones inside, so that both aims differ in it."""
    row = dataset().episodes[-1]
    marks = [m + row.start for m in milestones(EPISODES[-1].action, dataset().action_spec)]
    assert len(marks) > 1
    now = np.arange(row.start, row.stop)
    goal = dataset().windows(now, WindowSpec(goal=True, aim="next")).goal
    assert goal is not None
    expected = [min((m for m in marks if m > t), default=row.stop - 1) for t in now]
    np.testing.assert_array_equal(goal.state[:, 0], dataset().state[expected])
    segment = now >= marks[-2]
    end = dataset().windows(now, WindowSpec(goal=True)).goal
    assert end is not None
    same = (goal.state == end.state).flatten(1).all(dim=1).numpy()
    np.testing.assert_array_equal(same, segment)


def test_shapes_and_types() -> None:
    batch = dataset().windows(np.array([3, 9]), WindowSpec((-4, -2, 0), 2, 5, (3, 6), True))
    assert batch.observation.images["scene"].shape == (2, 3, 3, 16, 24)
    assert batch.observation.images["gripper"].shape == (2, 3, 3, 16, 16)
    assert batch.observation.images["scene"].dtype == torch.uint8
    assert batch.observation.state.shape == (2, 3, 3)
    assert batch.observation.state.dtype == batch.action.dtype == torch.float32
    assert batch.action.shape == (2, 7, 2)
    assert batch.action_pad.dtype == batch.observation.pad.dtype == torch.bool
    assert batch.past == 2
    assert batch.index is not None
    assert batch.index.tolist() == [3, 9]
    assert batch.goal is not None
    assert batch.goal.images["scene"].shape == (2, 1, 3, 16, 24)


@pytest.mark.parametrize("index", [[-1], [23], [[0]]])
def test_positions_out_of_range_are_refused(index: list[int]) -> None:
    with pytest.raises(DataError, match=r"\[0, 23\)"):
        dataset().windows(np.array(index), WindowSpec())


def test_extras_come_only_when_asked_for(recorded: Path) -> None:
    assert Dataset(recorded).windows(np.array([0]), WindowSpec()).observation.extras == {}
    batch = Dataset(recorded, extras=("depth",)).windows(np.array([0, 1]), WindowSpec())
    assert {k: v.shape for k, v in batch.observation.extras.items()} == {"depth": (2, 1, 4, 6)}
    with pytest.raises(DataError, match="Did you mean 'depth'"):
        Dataset(recorded, extras=("dept",))
