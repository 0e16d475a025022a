"""Whatever specs can be recorded come back bit by bit; what cannot be recorded is refused before the first file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from recordings import ACTION, EXTRAS, OBSERVATION, episode, pictures

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode, rebuild_stats
from wamkit.data.episode import EXTRA_DTYPES
from wamkit.errors import DataError, SpecError, WamkitError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/"),
    min_size=1,
    max_size=12,
)
RATES = st.sampled_from([1.0, 5, 10, 12.5, 29.97, 30, 30000 / 1001, 80, 240])
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Any bits that are a value of ``dtype``."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    span = np.iinfo(kind)
    return rng.integers(span.min, span.max, shape, dtype=kind, endpoint=True)


@settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.data())
def test_what_was_recorded_comes_back_for_any_specs(data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    cameras = draw(st.dictionaries(NAMES, st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=2))
    extras = draw(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(EXTRA_DTYPES)), max_size=2))
    rate = draw(RATES)
    state = tuple(draw(st.lists(NAMES, max_size=3, unique=True)))
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    tasks = draw(st.lists(NAMES, min_size=1, max_size=3))
    episodes = []
    for number, task in enumerate(tasks):
        frames = draw(st.integers(1, 5))
        episodes.append(
            Episode(
                {n: pictures(frames, h, w, number) for n, (h, w) in cameras.items()},
                rng.normal(size=(frames, len(state))).astype(np.float32),
                rng.uniform(-1, 1, (frames, len(names))).astype(np.float32),
                task,
                draw(st.booleans()),
                {n: values(rng, (frames, *shape), dtype) for n, (shape, dtype) in extras.items()},
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        try:
            seen = ObservationSpec({n: CameraSpec(h, w) for n, (h, w) in cameras.items()}, state, rate)
            acts = ActionSpec(names, (-1.0,) * len(names), (1.0,) * len(names), rate)
            with DatasetWriter(root, seen, acts, extras=extras) as writer:
                for item in episodes:
                    writer.add(item)
        except WamkitError:
            assert os.listdir(folder) in ([], [".set.lock"])
            event("refused")
            return
        read = Dataset(root, extras=tuple(extras))
        batch = read.windows(np.arange(read.num_frames), WindowSpec(horizon=1))
        rebuild_stats(root)
        again = Dataset(root, extras=tuple(extras))
    assert (read.observation_spec, read.action_spec) == (seen, acts)
    assert read.stats.keys() == again.stats.keys()
    np.testing.assert_array_equal(batch.action[:, 0], np.concatenate([e.action for e in episodes]))
    np.testing.assert_array_equal(batch.observation.state[:, 0], np.concatenate([e.state for e in episodes]))
    for name, (shape, dtype) in extras.items():
        assert read.extras[name].dtype == np.dtype(dtype)
        expected = np.concatenate([e.extras[name] for e in episodes])
        if shape == (1,):  # LeRobot stores it as a scalar
            expected = expected[:, 0]
        np.testing.assert_array_equal(read.extras[name], expected)
    for name in cameras:
        got = batch.observation.images[name][:, 0].numpy().transpose(0, 2, 3, 1).astype(int)
        expected = np.concatenate([e.images[name] for e in episodes])
        assert np.abs(got - expected).mean(axis=(1, 2, 3)).max() < 2.5
    assert list(batch.observation.task) == [e.task for e in episodes for _ in range(len(e))]
    assert [e.success for e in read.episodes] == [e.success for e in episodes]


REFUSED: dict[str, dict[str, Any]] = {
    "slash": {"cameras": {"a/b": CameraSpec(16, 16)}},
    "no name": {"cameras": {"": CameraSpec(16, 16)}},
    "line break": {"cameras": {"a\nb": CameraSpec(16, 16)}},
    "nul": {"cameras": {"a\0b": CameraSpec(16, 16)}},
    "long": {"cameras": {"é" * 100: CameraSpec(16, 16)}},
    "half a character": {"cameras": {"\ud800": CameraSpec(16, 16)}},
    "state of half a character": {"state": ("\ud800",)},
    "complex": {"extras": {"x": ((), "complex64")}},
    "text": {"extras": {"x": ((), "<U3")}},
    "unknown": {"extras": {"x": ((), "float99")}},
    "no entries": {"extras": {"x": ((0,), "float32")}},
    "rate": {"rate": 0.0001},
    "no rate": {"rate": float("nan")},
    "uneven rate": {"rate": 0.0012345},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_specs_that_cannot_be_recorded(tmp_path: Path, kind: str) -> None:
    change = REFUSED[kind]
    rate = change.get("rate", 10.0)
    with pytest.raises(SpecError):
        DatasetWriter(
            tmp_path / "set",
            ObservationSpec(change.get("cameras", {}), change.get("state", ("x",)), rate),
            ActionSpec(("dx",), (-1.0,), (1.0,), rate),
            extras=change.get("extras", {}),
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("action", [[0.0, 0.0]], "'action'.*got list"),
        ("state", None, "observation.state.*got NoneType"),
        ("action", np.float32(0), "'action'"),
        ("images", {"scene": [1], "gripper": [2]}, "observation.images.*got list"),
        ("task", None, "the task is None"),
        ("task", "  ", "the task is '  '"),
        ("task", "\ud800", "the task is"),
        ("success", "yes", "success is 'yes'"),
    ],
)
def test_episodes_of_other_types(tmp_path: Path, field: str, value: object, words: str) -> None:
    item = episode(4)
    object.__setattr__(item, field, value)
    writer = DatasetWriter(tmp_path / "set", OBSERVATION, ACTION, extras=EXTRAS)
    with pytest.raises(DataError, match=words), writer:
        writer.add(item)
    assert os.listdir(tmp_path) == [".set.lock"]
