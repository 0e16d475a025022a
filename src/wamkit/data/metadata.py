"""What stands beside the frames, in any layout: episodes, instructions and statistics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from typing_extensions import override

from wamkit.data import catalog, layout, lines, tables
from wamkit.data.catalog import EpisodeRow
from wamkit.data.located import located
from wamkit.data.stats import STATISTICS, FeatureStats, acted_frames, stats_from_json, vector_stats
from wamkit.storage import read_json

PerEpisode = dict[str, dict[str, np.ndarray]]


class Metadata(ABC):
    """Reader of the ``meta/`` folder of one dataset.

    Args:
        root: the dataset folder.
        info: content of ``meta/info.json``, checked.
    """

    def __init__(self, root: Path, info: Mapping[str, Any]) -> None:
        self.root, self.info = root, info

    @abstractmethod
    def episodes(self, stats_of: Sequence[str] = ()) -> tuple[tuple[EpisodeRow, ...], PerEpisode]:
        """Read the E episodes, and range and mean (E, D) of the vector features ``stats_of``, as far as stored.

        Raises:
            DataError: an entry is missing or of a wrong type, or episodes contradict each other.
        """

    @abstractmethod
    def further(self) -> list[dict[str, Any]]:
        """What every episode's entry holds that the layout does not know, such as ``success``."""

    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Read the instructions by task index; raises :class:`DataError` when they cannot be read."""

    @abstractmethod
    def stats(
        self, wanted: Mapping[str, tuple[int, ...]], column: Callable[[str], np.ndarray]
    ) -> tuple[dict[str, FeatureStats], dict[str, Any]]:
        """Return statistics of features, and what the files say of all.

        Args:
            wanted: key -> shape.
            column: gives a column of all frames, (N, ...), for statistics that are not stored; values of actions and
                states are finite.

        Raises:
            DataError: they are missing, of another shape, or contradict themselves.
        """


def metadata(root: Path, info: Mapping[str, Any]) -> Metadata:
    """Reader for the version that ``info`` declares."""
    return (Tables if info["codebase_version"] == layout.VERSION else Lines)(root, info)


@final
class Tables(Metadata):
    """Metadata of v3.0: parquet tables, and statistics with quantiles."""

    @override
    def episodes(self, stats_of: Sequence[str] = ()) -> tuple[tuple[EpisodeRow, ...], PerEpisode]:
        rows, per_episode = catalog.read_episodes(self.root, self.info, stats_of)
        return located(self.root, self.info, rows), per_episode

    @override
    def further(self) -> list[dict[str, Any]]:
        return catalog.read_further(self.root, self.info)

    @override
    def tasks(self) -> tuple[str, ...]:
        return tables.read_tasks(self.root / layout.TASKS)

    @override
    def stats(
        self, wanted: Mapping[str, tuple[int, ...]], column: Callable[[str], np.ndarray]
    ) -> tuple[dict[str, FeatureStats], dict[str, Any]]:
        return catalog.read_stats(self.root, wanted)


@final
class Lines(Metadata):
    """Metadata of v2.1 and v2.0: lines of JSON, and statistics without quantiles.

    So statistics of actions and states are computed from the frames, which takes one pass over their columns. Those of
    cameras are there only where ``meta/stats.json`` has all of them: nothing but reports of a dataset reads them.
    """

    @override
    def episodes(self, stats_of: Sequence[str] = ()) -> tuple[tuple[EpisodeRow, ...], PerEpisode]:
        rows, _ = lines.read_episodes(self.root, self.info)
        return rows, lines.episode_stats(self.root, self.info, stats_of, len(rows))

    @override
    def further(self) -> list[dict[str, Any]]:
        return lines.read_episodes(self.root, self.info)[1]

    @override
    def tasks(self) -> tuple[str, ...]:
        return lines.read_tasks(self.root)

    @override
    def stats(
        self, wanted: Mapping[str, tuple[int, ...]], column: Callable[[str], np.ndarray]
    ) -> tuple[dict[str, FeatureStats], dict[str, Any]]:
        path = self.root / layout.STATS
        listed = (
            read_json(path, "Remove it: statistics are computed from the frames.") if path.exists() else {}
        )
        found = {}
        for key, shape in wanted.items():
            if key in layout.VECTORS:
                found[key] = self._computed(key, column)
            elif isinstance(listed.get(key), dict) and set(STATISTICS) <= listed[key].keys():
                found[key] = stats_from_json(listed[key], f"{path}, feature {key!r}", shape, (0.0, 1.0))
        return found, listed

    def _computed(self, key: str, column: Callable[[str], np.ndarray]) -> FeatureStats:
        values = column(key)
        if key == layout.ACTION_KEY and layout.ACTED_KEY in self.info["features"]:
            values = acted_frames(values, column(layout.ACTED_KEY))
        return vector_stats(values)
