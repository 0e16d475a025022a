import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import record, varied

from wamkit.contract.types import Batch, WindowSpec
from wamkit.data import Batches, Dataset
from wamkit.data.loader import positions
from wamkit.errors import DataError

SPEC = WindowSpec(observation=(-2, 0), horizon=3, future=(2,))


@settings(max_examples=50, deadline=None)
@given(frames=st.integers(1, 40), size=st.integers(1, 17), seed=st.integers(0, 9), epochs=st.integers(1, 3))
def test_every_epoch_visits_every_frame_once(frames: int, size: int, seed: int, epochs: int) -> None:
    steps = -(-frames * epochs // size)
    row = np.concatenate([positions(frames, size, seed, k) for k in range(steps)])
    for epoch in range(epochs):
        assert Counter(row[epoch * frames : (epoch + 1) * frames].tolist()) == Counter(range(frames))


def take(data: Dataset, count: int, **settings: int) -> list[Batch]:
    with Batches(data, SPEC, 4, **{"seed": 0, **settings}) as batches:
        return [next(batches) for _ in range(count)]


def equal(one: Batch, other: Batch) -> bool:
    assert one.future is not None
    assert other.future is not None
    pairs = [
        (one.index, other.index),
        (one.action, other.action),
        (one.action_pad, other.action_pad),
        *((one.observation.images[n], other.observation.images[n]) for n in one.observation.images),
        (one.future.state, other.future.state),
    ]
    return all(a is not None and b is not None and a.equal(b) for a, b in pairs)


def test_resuming_gives_the_same_batches(recorded: Path) -> None:
    data = Dataset(recorded)
    whole = take(data, 12)
    rest = take(Dataset(recorded), 7, start_step=5, prefetch=4)
    assert all(equal(a, b) for a, b in zip(whole[5:], rest, strict=True))
    other = take(data, 12, seed=1)
    assert not all(equal(a, b) for a, b in zip(whole, other, strict=True))


def test_the_step_counts_and_waiting_is_measured(recorded: Path) -> None:
    with Batches(Dataset(recorded), SPEC, 4, seed=0, start_step=3) as batches:
        next(batches)
        assert batches.step == 4
        assert batches.wait_seconds > 0


def test_closing_ends_the_thread(recorded: Path) -> None:
    batches = Batches(Dataset(recorded), SPEC, 4, seed=0)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]
    with pytest.raises(StopIteration):
        next(batches)


def test_an_error_in_the_thread_reaches_the_consumer(tmp_path: Path) -> None:
    data = Dataset(record(tmp_path / "set", varied([5, 9, 4])))
    video = tmp_path / "set/videos/observation.images.scene/chunk-000/file-000.mp4"
    video.unlink()  # after the checks, before the first frame is decoded
    with Batches(data, SPEC, 4, seed=0) as batches, pytest.raises(DataError, match="episode 0 to 2"):
        next(batches)


def test_settings_that_make_no_sense_are_refused(recorded: Path) -> None:
    with pytest.raises(DataError, match="batch_size >= 1"):
        Batches(Dataset(recorded), SPEC, 0, seed=0)
