"""Frames that were recorded late, or not at all: refused as they are, and read at an even rate by their time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_seen import record

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import Dataset, data_spec
from wamkit.errors import DataError
from wamkit.views import View, ViewConfig

RATE = 20.0


def view(**fields: float) -> View:
    spec = ActionSpec(("x",), (-1.0,), (1.0,), RATE, mode="absolute")
    return View(ViewConfig(**fields), ObservationSpec({}, ("x",), RATE), spec)  # type: ignore[arg-type]


def with_times(root: Path, times: list[np.ndarray]) -> Path:
    """Give the frames of a recording other times, as another writer would: without specs and digests of wamkit."""
    info = json.loads((root / "meta/info.json").read_text())
    del info["wamkit"]
    (root / "meta/info.json").write_text(json.dumps(info))
    (file,) = (root / "data").rglob("*.parquet")
    table = pq.read_table(file)
    column = table.column_names.index("timestamp")
    values = pa.array(np.concatenate(times).astype(np.float32))
    pq.write_table(table.set_column(column, "timestamp", values), file)
    return root


def jittered(
    rng: np.random.Generator, lengths: tuple[int, ...] = (20, 31), lost: float = 0.2
) -> list[np.ndarray]:
    """Times with up to 0.4 ticks of jitter, and frames that were lost."""
    times = []
    for length in lengths:
        ticks = np.flatnonzero(rng.random(9 * length) > lost)[:length] + rng.uniform(-0.4, 0.4, length)
        times.append((ticks - ticks[0]) / RATE)
    return times


@settings(max_examples=80, deadline=None)
@given(rate=st.floats(1.0, 60.0), seed=st.integers(0, 2**32 - 1), lost=st.sampled_from((0.0, 0.2, 0.6)))
def test_every_tick_is_the_nearest_frame_in_time(rate: float, seed: int, lost: float) -> None:
    times = jittered(np.random.default_rng(seed), lost=lost)[0]
    ticks = view(rate_hz=rate).ticks(len(times), times)
    wanted = np.arange(len(ticks)) / rate
    assert wanted[-1] <= times[-1] + 1e-6 < wanted[-1] + 1 / rate + 2e-6
    distance = np.abs(times[:, None] - wanted)
    np.testing.assert_allclose(distance[ticks, np.arange(len(ticks))], distance.min(axis=0), atol=1e-12)
    assert (np.diff(ticks) >= 0).all()


def test_an_even_recording_is_read_by_its_numbers() -> None:
    """Single precision of the times must not move a tick that lies between two frames."""
    times = (np.arange(400) / RATE).astype(np.float32).astype(np.float64)
    for rate in (40.0, 13.3, 20.0, 8.0):
        assert np.array_equal(view(rate_hz=rate).ticks(400, times), view(rate_hz=rate).ticks(400))


def test_lost_and_late_frames_are_refused_unless_a_rate_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Dataset(record(tmp_path / "plain"))
    times = jittered(np.random.default_rng(0))
    root = with_times(record(tmp_path / "data"), times)
    for config in (ViewConfig(), ViewConfig(every=2)):
        with pytest.raises(
            DataError, match=r"episode 0, field 'timestamp': frame \d+ has .* set `view.rate_hz`"
        ):
            Dataset(root, view=config)
    for rate in (10.0, RATE):
        seen = Dataset(root, view=ViewConfig(rate_hz=rate))
        ticks = []
        for first, own in zip((0, 20), times, strict=True):
            wanted = np.arange(int(np.floor(own[-1] * rate + 1e-6)) + 1) / rate
            ticks.append(first + np.abs(own[:, None] - wanted).argmin(axis=0))
        assert np.array_equal(seen.state, plain.state[np.concatenate(ticks)])
        assert np.array_equal(seen.action, plain.action[np.concatenate(ticks)])
        assert [len(e) for e in seen.episodes] == [len(own) for own in ticks]
        assert seen.observation_spec.rate_hz == rate
        found = data_spec(seen).stats["observation.state"]["mean"]
        np.testing.assert_allclose(found, seen.state.mean(axis=0), atol=1e-6)
        assert "not recorded at an even rate" in caplog.text


def test_time_that_stands_still_or_belongs_to_another_rate_is_refused(tmp_path: Path) -> None:
    even = [np.arange(20) / RATE, np.arange(31) / RATE]
    still = [even[0].copy(), even[1]]
    still[0][7] = still[0][6]
    root = with_times(record(tmp_path / "still"), still)
    with pytest.raises(DataError, match="episode 0, field 'timestamp': time does not run on from frame 6"):
        Dataset(root, view=ViewConfig(rate_hz=10.0))
    root = with_times(record(tmp_path / "rate"), [times * 2 for times in even])
    with pytest.raises(DataError, match=r"frames are 0.1 s apart, but info.json declares 20 per second"):
        Dataset(root, view=ViewConfig(rate_hz=10.0))
