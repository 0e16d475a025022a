"""Reader of LeRobotDataset folders (v3.0, v2.1 and v2.0), which cuts windows out of them."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wamkit.contract.data import Scaling
from wamkit.contract.specs import CLOCK, MILESTONES
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.data import layout, spans
from wamkit.data.catalog import EpisodeRow
from wamkit.data.channels import other_pictures
from wamkit.data.contents import Contents
from wamkit.data.frame_cache import CacheLimit, open_cache
from wamkit.data.frame_reader import FrameReader
from wamkit.data.frames import FrameStore
from wamkit.data.milestones import milestones
from wamkit.data.seen import mean_between, seen_stats
from wamkit.data.stats import FeatureStats
from wamkit.errors import DataError
from wamkit.views import View, ViewConfig

GB = 1024**3
AS_RECORDED = ViewConfig()

LOG = logging.getLogger(__name__)


class Dataset:
    """A LeRobotDataset on disk, v3.0, v2.1 or v2.0, checked before the first window is cut.

    The constructor reads ``meta/``, all tables and every video container, so that a broken dataset fails here, naming
    file, episode and field, and not after an hour of training. Frames are decoded when the first window needs them.

    Args:
        root: the dataset folder.
        extras: names of extras to load and include in observations, as the view shows them. For a dataset written
            elsewhere, the keys of further numeric features. Every dataset has ``episode_clock``: ticks since the start
            of the episode, ticks to its end, and its success (1, 0, or NaN where it is not recorded); and
            ``episode_milestones``: number of its next milestone, from 1, and the number of all.
        image_memory_gb: memory limit for decoded frames, GiB; see :class:`wamkit.data.frames.FrameStore`.
        view: how the dataset is seen; as it is recorded by default.
        cache: where decoded frames are kept on disk; None for nowhere.

    Attributes:
        root: the dataset folder.
        info: content of ``meta/info.json``.
        view: how the dataset is seen. Everything below is seen through it, unless it says otherwise.
        observation_spec: spec of the observations; the recorded one is stored by wamkit, or inferred
            (:func:`wamkit.data.layout.infer_specs`).
        action_spec: spec of the actions.
        fps: recorded frames per second, Hz.
        tasks: instructions by task index.
        episodes: per-episode metadata; frames are counted in the ticks of the view.
        stats: feature key -> statistics (``action``, ``observation.state``, ``observation.images.<camera>``).
        state: states (N, S), float32.
        action: actions (N, A), float32; zero in frames without one. Relative ones are relative to their own frame.
        recorded_stats: feature key -> statistics of what was recorded.
        recorded_action: actions (N, A) in the recorded columns, at the ticks of the view; no turn where there is none.
        recorded_state: states (N, S) in the recorded columns, at the ticks of the view.
        resampled: true where the ticks of the view are not all recorded ones.
        acted: (N,) bool, True for frames recorded with their action (feature ``has_action``; without it, all).
        extras: name -> (N, ...).
        frames: images of all cameras.

    Raises:
        DataError: the dataset cannot be used.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        extras: Sequence[str] = (),
        image_memory_gb: float = 4.0,
        view: ViewConfig = AS_RECORDED,
        cache: CacheLimit | None = None,
    ) -> None:
        self.root = Path(root)
        if not 0 < image_memory_gb < float("inf"):
            raise DataError(f"{root}: image_memory_gb = {image_memory_gb} must be a number above 0, in GiB.")
        self._image_memory_gb, self._cache = image_memory_gb, cache
        wanted = [view.recorded_extra(name) for name in extras]
        contents = Contents(self.root, wanted, even=view.rate_hz is None)
        contents.check()
        info, features = contents.info, contents.features
        self.info: Mapping[str, Any] = info
        self.fps = contents.fps
        for key, what in other_pictures(features).items():
            LOG.warning(
                "%s: %r is %s, not an RGB camera, and is left out. Record a grey picture as three equal channels, and "
                "depth as a numeric feature.", self.root, key, what,
            )  # fmt: skip
        self.episodes: tuple[EpisodeRow, ...] = contents.episodes
        self.tasks = contents.tasks
        self.recorded_stats: Mapping[str, FeatureStats] = contents.stats
        self.observation_spec, self.action_spec = contents.specs
        self.action: np.ndarray = contents.column(layout.ACTION_KEY)
        count = len(self.action)
        declared, moved = layout.ACTED_KEY in features, layout.STATE_KEY in features
        self.acted: np.ndarray = contents.column(layout.ACTED_KEY) if declared else np.ones(count, bool)
        without = np.zeros((count, 0), np.float32)
        self.state: np.ndarray = contents.column(layout.STATE_KEY) if moved else without
        self.extras = {name: contents.column(key) for name, key in contents.extra_keys.items()}
        self._task_index = contents.column(contents.instruction)
        self.view = View(view, self.observation_spec, self.action_spec)
        self.frames = self._open_frames(layout.camera_keys(features))
        self._see(extras, contents.column("timestamp").astype(np.float64))
        starts = np.array([e.start for e in self.episodes])
        lengths = np.array([len(e) for e in self.episodes])
        self._first = np.repeat(starts, lengths)
        self._last = np.repeat(starts + lengths - 1, lengths)
        if CLOCK in extras:
            self.extras[CLOCK] = self._clock()
        if MILESTONES in extras:
            self.extras[MILESTONES] = self._parts()

    @property
    def num_frames(self) -> int:
        """Number of frames N over all episodes."""
        return len(self.action)

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    def with_extras(self, names: Sequence[str]) -> Dataset:
        """Return this dataset with extras in its observations; itself when it already has them."""
        if set(names) <= set(self.extras):
            return self
        return Dataset(
            self.root,
            extras=names,
            image_memory_gb=self._image_memory_gb,
            view=self.view.config,
            cache=self._cache,
        )._scaled_as(self.view)

    def _scaled_as(self, view: View) -> Dataset:
        return self if view.scaling is None else self.scaled(*view.scaling)

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """Cut one window per entry of ``index``.

        Steps outside the episode repeat its nearest step and are marked in the padding masks; no window extends
        into another episode. Actions of an episode without any are padding throughout.

        Args:
            index: (B,), global frame numbers of the windows' "now".
            spec: steps of a window.

        Raises:
            DataError: a frame number is out of range.
        """
        now = np.asarray(index, dtype=np.int64)
        if now.ndim != 1 or (len(now) and (now.min() < 0 or now.max() >= self.num_frames)):
            raise DataError(
                f"{self.root}: window positions must be a 1-D array of frame numbers in [0, {self.num_frames}), "
                f"got shape {now.shape} from {now.min(initial=0)} to {now.max(initial=0)}"
            )
        acts, act_pad = self._steps(now, np.arange(-spec.past_actions, spec.horizon))
        goal = None
        if spec.goal:
            last = self._last[now][:, None]
            end = last, np.zeros_like(last, dtype=bool)
            goal = self._observe(*(self._next_milestones(now, 1) if spec.aim == "next" else end))
        ahead = self._observe(*self._next_milestones(now, spec.milestones)) if spec.milestones else None
        return Batch(
            observation=self._observe(*self._steps(now, np.array(spec.observation))),
            action=self._actions(now, acts, spec.past_actions),
            action_pad=torch.from_numpy(act_pad | ~self.acted[now][:, None]),
            past=spec.past_actions,
            future=self._observe(*self._steps(now, np.array(spec.future))) if spec.future else None,
            goal=goal,
            milestones=ahead,
            index=torch.from_numpy(now),
        )

    def fingerprint(self) -> str:
        """Return a hash of the paths and contents of all files of the dataset, for reports. Computed once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(
            p for folder in ("meta", "data", "videos") for p in (self.root / folder).rglob("*")
        ):
            if path.is_file():
                digest.update(path.relative_to(self.root).as_posix().encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def _clock(self) -> np.ndarray:
        """Values (N, 3) of the extra ``episode_clock``, described at the class."""
        frames = np.arange(self.num_frames)
        success = np.concatenate(
            [np.full(len(e), np.nan if e.success is None else e.success) for e in self.episodes]
        )
        return np.stack((frames - self._first, self._last - frames, success), axis=1).astype(np.float32)

    def _parts(self) -> np.ndarray:
        """Values (N, 2) of the extra ``episode_milestones``, described at the class."""
        before, last = (np.searchsorted(self.milestones, frames) for frames in (self._first, self._last))
        following = np.searchsorted(self.milestones, np.arange(self.num_frames), side="right")
        # At the last frame of an episode its last milestone is reached, and stays the one that counts.
        return np.stack((np.minimum(following, last) - before + 1, last - before + 1), axis=1).astype(
            np.float32
        )

    @cached_property
    def milestones(self) -> np.ndarray:
        """Frame numbers of the milestones of all episodes, ascending; see :mod:`wamkit.data.milestones`."""
        _, spec = self.view.recorded
        return np.concatenate(
            [milestones(self.recorded_action[e.start : e.stop], spec) + e.start for e in self.episodes]
        )

    def _next_milestones(self, now: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (B, count) of the next milestones after ``now`` (B,), and their padding mask, all False."""
        # Nothing changes after the end of a task, so repeating the last milestone is the ground truth.
        end = np.searchsorted(self.milestones, self._last[now])
        first = np.searchsorted(self.milestones, now, side="right")
        steps = self.milestones[np.minimum(first[:, None] + np.arange(count), end[:, None])]
        return steps, np.zeros_like(steps, dtype=bool)

    def _steps(self, now: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (B, T) at ``offsets`` (T,) from ``now`` (B,), clipped to the episode, and the padding mask."""
        unclipped = now[:, None] + offsets.astype(np.int64)
        steps = np.clip(unclipped, self._first[now][:, None], self._last[now][:, None])
        return steps, steps != unclipped

    def _observe(self, steps: np.ndarray, pad: np.ndarray) -> Observation:
        """Return the observation at frame numbers ``steps`` (B, T)."""
        frames = self._ticks[steps]
        state_columns, action_columns = self.view.columns(len(steps))
        taken = self.frames.take_each(dict.fromkeys(self.observation_spec.cameras, frames))
        return Observation(
            images={name: torch.from_numpy(images) for name, images in taken.items()},
            state=torch.from_numpy(self.state[steps]),
            task=tuple(self.tasks[i] for i in self._task_index[steps[:, -1]]),
            pad=torch.from_numpy(pad),
            extras={name: torch.from_numpy(values[steps]) for name, values in self.extras.items()},
            state_columns=state_columns,
            action_columns=action_columns,
        )

    def _open_frames(self, keys: Mapping[str, str]) -> FrameStore:
        """Open the pictures of the view's cameras; ``keys`` maps recorded cameras to features."""
        view, recorded = self.view, self.observation_spec.cameras
        reader = FrameReader(
            self.episodes,
            {name: recorded[camera] for name, camera in view.cameras.items()},
            {name: keys[camera] for name, camera in view.cameras.items()},
            self.fps,
            str(self.root),
            spans.recorded_digests(self.root, self.info),
            view.sizing,
        )
        pictures = {
            name: [keys[view.cameras[name]], *size.target, size.fit] for name, size in view.sizing.items()
        }
        cache = None if self._cache is None else open_cache(reader, self.root, pictures, self._cache)
        return FrameStore(reader, int(self._image_memory_gb * GB), cache)

    def _see(self, extras: Sequence[str], times: np.ndarray) -> None:
        """Replace what was recorded by what the view shows of it.

        Args:
            extras: names of the extras that are asked for.
            times: (N,), when frames were recorded, seconds since the start of their episode.
        """
        view = self.view
        parts = [view.ticks(len(e), times[e.start : e.stop]) + e.start for e in self.episodes]
        self._ticks = np.concatenate(parts)
        self.resampled = not np.array_equal(self._ticks, np.arange(len(times)))
        self._say_uneven(times)
        if self.resampled:
            _, spec = view.recorded
            if spec.mode == "delta":  # the same way in all, at the speed of the mean
                self.action = mean_between(self.action, parts, [e.stop for e in self.episodes])
            else:
                self.action = self.action[self._ticks]
            self.state, self.acted = self.state[self._ticks], self.acted[self._ticks]
            self._task_index = self._task_index[self._ticks]
            self.extras = {name: values[self._ticks] for name, values in self.extras.items()}
            stops = np.cumsum([len(part) for part in parts]).tolist()
            self.episodes = tuple(
                replace(e, start=stop - len(part), stop=stop)
                for e, part, stop in zip(self.episodes, parts, stops, strict=True)
            )
        if any(piece.rotation is not None for piece in view.action.pieces):
            self.action = np.where(self.acted[:, None], self.action, view.action.still.astype(np.float32))
        self.recorded_state, self.recorded_action = self.state, self.action
        self._check_rotations()
        for name in extras:
            view.extras.recorded_name(name)
        shown = view.extras.see_arrays(self.extras)
        self.extras = {name: shown[name] for name in extras if name in shown}
        self._show()

    def _say_uneven(self, times: np.ndarray) -> None:
        """Warn where frames were not recorded at an even rate."""
        own = [times[e.start : e.stop] for e in self.episodes]
        uneven = [of for of in own if self.view.uneven(of)]
        if uneven:
            LOG.warning(
                "%s: in %d of %d episodes frames were not recorded at an even rate (up to %.3g s apart). Each tick at "
                "%g Hz is the frame that is nearest in time.", self.root, len(uneven), len(own),
                max(float(np.diff(of).max()) for of in uneven), self.view.observation_spec.rate_hz,
            )  # fmt: skip

    def _check_rotations(self) -> None:
        """Raise :class:`DataError` where what the view takes for a rotation is none."""
        for columns, values in (
            (self.view.state, self.recorded_state),
            (self.view.action, self.recorded_action),
        ):
            fault = columns.no_rotation(values)
            if fault is not None:
                row = next(e for e in self.episodes if e.start <= fault[0] < e.stop)
                tick = int(self._ticks[fault[0]] - self._ticks[row.start])
                raise DataError(
                    f"{self.root}, episode {row.index}, frame {tick}: {fault[1]} is no rotation. Correct "
                    f"`view.state_rotations` or `view.action_rotations`, or the values."
                )

    def _show(self) -> None:
        """Set columns, specs and statistics to what the view shows of the recorded ones."""
        view = self.view
        self.observation_spec, self.action_spec = view.observation_spec, view.action_spec
        if not (view.state.same and view.action.same and not self.resampled):
            now = torch.from_numpy(self.recorded_state)
            self.state = view.states(now).numpy()
            self.action = view.actions(torch.from_numpy(self.recorded_action)[:, None], now)[:, 0].numpy()
            self.action[~self.acted] = 0.0
        self.stats: Mapping[str, FeatureStats] = seen_stats(self, 1)

    def scaled(self, state: Scaling, action: Scaling) -> Dataset:
        """Return this dataset with the columns of its view scaled."""
        found = copy.copy(self)
        found.view = View(self.view.config, *self.view.recorded, state, action)
        found._show()
        return found

    def _actions(self, now: np.ndarray, steps: np.ndarray, past: int) -> torch.Tensor:
        """Actions (B, P + H, A) at frame numbers ``steps`` (B, P + H) of windows at ``now`` (B,)."""
        if not self.view.relative:
            return torch.from_numpy(self.action[steps])
        recorded, state = (
            torch.from_numpy(self.recorded_action[steps]),
            torch.from_numpy(self.recorded_state[now]),
        )
        return self.view.actions(recorded, state, past)
