"""Windows of demonstrations, spread evenly over every episode, in the form a design observes when acting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wamkit.contract.types import Batch, Observation
from wamkit.data import Dataset
from wamkit.errors import ConfigError, DataError


def spread_windows(
    dataset: Dataset, per_episode: int, ahead: int, acted: bool = False, episodes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers (N,) of up to ``per_episode`` windows per episode, and the episode's position in the dataset (N,).

    Every window is followed by at least one frame of its episode, and by ``ahead`` ticks if the episode is long
    enough. With ``acted``, episodes that were recorded without actions are left out; ``episodes`` are the positions of
    those that are wanted, all of them by default.

    Raises:
        DataError: no episode has two frames, or none of those has actions.
    """
    index: dict[int, np.ndarray] = {}
    for number in range(dataset.num_episodes) if episodes is None else episodes:
        episode = dataset.episodes[number]
        if len(episode) < 2 or (acted and not dataset.acted[episode.start]):
            continue
        last = max(episode.stop - 1 - ahead, episode.start)
        last = min(last, episode.stop - 2)
        count = min(per_episode, last - episode.start + 1)
        index[number] = np.unique(np.linspace(episode.start, last, count).round().astype(np.int64))
    if not index:
        which = "no episode with actions" if acted else "no episode"
        which += "" if episodes is None else f" of {list(episodes)}"
        raise DataError(f"{dataset.root}: {which} has two frames, so there is no future to compare with")
    owners = np.repeat(list(index), [len(frames) for frames in index.values()])
    return np.concatenate(list(index.values())), owners


def future_of(batch: Batch) -> Observation:
    """Observed future of a batch.

    Raises:
        ConfigError: the batch was cut with a window that has no future steps.
    """
    if batch.future is None:
        raise ConfigError("these windows have no future. Cut them with `WindowSpec(future=...)`.")
    return batch.future
