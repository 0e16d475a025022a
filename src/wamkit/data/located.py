"""Which data file holds an episode, where the episode table of another program is wrong about it.

The converter from v2.1 in ``lerobot==0.4.4`` (``convert_dataset_v21_to_v30``) names, for the first episode of every data
file after the first, the file before. LeRobot reads all files together and never notices. Frames are stored in order, so
the numbers of rows tell where each episode is; the index columns, which are compared afterwards, prove it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.data import layout
from wamkit.data.catalog import EpisodeRow

LOG = logging.getLogger(__name__)


def located(root: Path, info: Mapping[str, Any], episodes: Sequence[EpisodeRow]) -> tuple[EpisodeRow, ...]:
    """Return the episodes with the data files that hold them.

    They are returned as they are where the table agrees with the files, where wamkit wrote it, or where it is wrong in
    another way: that is told when the frames are read.
    """
    if layout.SPEC_KEY in info or info["data_path"] != layout.DATA:
        return tuple(episodes)
    found = sorted(root.glob("data/*/*.parquet"))
    try:
        rows = [pq.read_metadata(path).num_rows for path in found]
    except (pa.ArrowException, OSError):
        return tuple(episodes)
    declared: Counter[Path] = Counter()
    for episode in episodes:
        declared[episode.data] += len(episode)
    files = dict(zip(found, rows, strict=True))
    if files == declared or sum(rows) != episodes[-1].stop:
        return tuple(episodes)
    ends, starts = np.cumsum(rows).tolist(), [0, *np.cumsum(rows).tolist()]
    moved, wrong = [], 0
    for episode in episodes:
        owner = int(np.searchsorted(ends, episode.start, side="right"))
        first = owner > 0 and episode.start == starts[owner]
        if episode.stop > ends[owner] or episode.data not in (found[owner], *found[owner - 1 : owner] * first):
            return tuple(episodes)
        wrong += episode.data != found[owner]
        moved.append(replace(episode, data=found[owner]))
    LOG.warning(
        "%s: the table names another data file for %d episodes than the one that holds them, as the converter of "
        "lerobot 0.4.4 writes it. They are read where they are.",
        root / "meta/episodes",
        wrong,
    )
    return tuple(moved)
