"""Held-out episodes: which ones a run never learns from, and everything else as what it learns from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from wamkit.contract.data import DataSpec
from wamkit.contract.types import Batch, WindowSpec
from wamkit.data import Dataset
from wamkit.data.layout import ACTION_KEY, STATE_KEY
from wamkit.data.mixture import Mixture, Recordings, marks
from wamkit.data.seen import relative_actions
from wamkit.data.spec import with_floor
from wamkit.data.stats import vector_stats
from wamkit.errors import ConfigError
from wamkit.storage import read_json
from wamkit.storage.documents import write_document

HELD_OUT_FILE = "held_out.json"
DRAW = 0x4E1D  # keeps the draw of episodes apart from other draws with the same seed


def draw_held_out(episodes: int, held_out: float, seed: int) -> tuple[int, ...]:
    """Numbers of the episodes that are held out, ascending.

    A larger share holds out the episodes of a smaller one and further ones.

    Args:
        episodes: number of episodes of the dataset.
        held_out: share of them below 1, of which at least one episode is held out; number of them from 1 on; 0 for
            none.
        seed: seed of the draw.

    Raises:
        ConfigError: it is neither a share nor a whole number, or nothing is left to learn from.
    """
    if held_out == 0:
        return ()
    if held_out > 1 and held_out != int(held_out):
        raise ConfigError(
            f"held_out: {held_out:g} is neither a share below 1 nor a whole number of episodes. Give one of them."
        )
    count = max(1, round(held_out * episodes)) if held_out < 1 else int(held_out)
    if count >= episodes:
        raise ConfigError(
            f"held_out: {held_out:g} of {episodes} episodes leaves none to learn from. Hold out at most "
            f"{episodes - 1}, or record more."
        )
    order = np.random.default_rng([seed, DRAW]).permutation(episodes)
    return tuple(sorted(int(number) for number in order[:count]))


def held_out_episodes(dataset: Recordings, held_out: float, seed: int) -> tuple[int, ...]:
    """Numbers of the episodes that are held out of a dataset, or of every dataset of a mixture, counted through.

    The arguments and errors are those of :func:`draw_held_out`.
    """
    if not isinstance(dataset, Mixture):
        return draw_held_out(dataset.num_episodes, held_out, seed)
    drawn: list[int] = []
    for name, first in dataset.first_episodes.items():
        try:
            own = draw_held_out(dataset.datasets[name].num_episodes, held_out, seed)
        except ConfigError as error:
            raise ConfigError(f"mixture.{name}: {error}") from error
        drawn += [first + number for number in own]
    return tuple(drawn)


@final
class Subset:
    """Some episodes of a dataset, as parts and batches see a dataset.

    Frames are counted within the subset; the windows that are cut keep the frame numbers of the whole dataset.

    Args:
        dataset: the whole dataset.
        episodes: numbers of the episodes of the subset.
    """

    def __init__(self, dataset: Recordings, episodes: Sequence[int]) -> None:
        self._dataset = dataset
        self.frames = frames_of(dataset, episodes)

    @property
    def num_frames(self) -> int:
        """Number of frames of the subset."""
        return len(self.frames)

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """Cut windows at the frames ``index`` (B,) of the subset."""
        return self._dataset.windows(self.frames[index], spec)


def complement(dataset: Recordings, episodes: Sequence[int]) -> Recordings | Subset:
    """Everything but these episodes; the dataset itself where there are none."""
    return Subset(dataset, _others(dataset, episodes)) if episodes else dataset


def complement_frames(dataset: Recordings, episodes: Sequence[int]) -> np.ndarray:
    """Frame numbers (M,), ascending, of everything but these episodes."""
    return frames_of(dataset, _others(dataset, episodes))


def frames_of(dataset: Recordings, episodes: Sequence[int]) -> np.ndarray:
    """Frame numbers (M,) of these episodes."""
    rows = [dataset.episodes[number] for number in episodes]
    return np.concatenate([np.arange(row.start, row.stop) for row in rows])


def _others(dataset: Recordings, episodes: Sequence[int]) -> list[int]:
    return [number for number in range(dataset.num_episodes) if number not in set(episodes)]


def with_stats_of(data: DataSpec, dataset: Dataset, frames: np.ndarray, horizon: int) -> DataSpec:
    """Data spec whose statistics of actions and states are those of some frames, (M,), of the dataset.

    Relative actions are those of windows of ``horizon`` actions.
    Statistics of pictures stay those of all frames: computing them anew would decode every video before the first
    step.
    """
    acted = frames[dataset.acted[frames]]
    stats = dict(data.stats)
    action = relative_actions(dataset, horizon, acted) if dataset.view.relative else dataset.action[acted]
    for key, values in ((ACTION_KEY, action), (STATE_KEY, dataset.state[frames])):
        if key in stats and len(values):
            stats[key] = with_floor(vector_stats(values))
    return dataclasses.replace(data, stats=stats)


def write_held_out(out: Path, episodes: Sequence[int], dataset: Recordings) -> None:
    """Write into the folder of a run which episodes it holds out; nothing where it holds out none."""
    if not episodes:
        return
    stored: dict[str, Any] = {"episodes": list(episodes), "data": marks(dataset)}
    if isinstance(dataset, Mixture):
        stored["robots"] = {name: list(own) for name, own in episodes_of_robots(dataset, episodes).items()}
    write_document(out / HELD_OUT_FILE, stored)


def episodes_of_robots(dataset: Mixture, episodes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Robot -> those of the episodes of a mixture that are its own, by their numbers in its dataset."""
    return {
        name: tuple(n - first for n in episodes if 0 <= n - first < dataset.datasets[name].num_episodes)
        for name, first in dataset.first_episodes.items()
    }


def held_out_of(checkpoint: Path, dataset: Dataset, robot: str | None = None) -> tuple[int, ...]:
    """Episodes of ``dataset`` that the run of a checkpoint held out; none where that is not recorded.

    Args:
        checkpoint: folder of a checkpoint inside the folder of its run, such as ``<run>/model``.
        dataset: demonstrations; of another dataset than that of the run, nothing is known.
        robot: robot that they show, of a run on several.
    """
    for folder in list(checkpoint.absolute().parents)[:2]:
        if (folder / HELD_OUT_FILE).is_file():
            stored = read_json(folder / HELD_OUT_FILE, "Choose the episodes with `episodes`.")
            data, episodes = stored.get("data"), stored.get("episodes", ())
            if "robots" in stored:
                data, episodes = (stored[key].get(robot, ()) for key in ("data", "robots"))
            return tuple(episodes) if data == marks(dataset) else ()
    return ()


def sample_frames(frames: int, most: int, seed: int) -> np.ndarray:
    """Up to ``most`` of ``frames`` frame numbers, ascending, drawn with the seed without replacement."""
    rng = np.random.default_rng([seed, DRAW])
    return np.sort(rng.permutation(frames)[:most])
