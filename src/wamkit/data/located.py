"""Which data file holds an episode, where the episode table of another program is wrong about it.

The converter from v2.1 in ``lerobot==0.4.4`` (``convert_dataset_v21_to_v30``) names, for the first episode of every
data file after the first, the file with the number before; where the first episode alone exceeds the size of a file,
the first file is not even there. LeRobot reads all files together and never notices. Frames are stored in order, so the
numbers of rows tell where each episode is; the index columns, which are compared afterwards, prove it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data import layout, tables
from wamkit.data.catalog import EpisodeRow

LOG = logging.getLogger(__name__)


def located(root: Path, info: Mapping[str, Any], episodes: Sequence[EpisodeRow]) -> tuple[EpisodeRow, ...]:
    """Return the episodes with the data files that hold them.

    They are returned as they are where the table agrees with the files, where wamkit wrote it, or where it is wrong in
    another way: that is told when the frames are read.
    """
    if layout.SPEC_KEY in info or info["data_path"] != layout.DATA:
        return tuple(episodes)
    found = tables.numbered(root / "data")
    try:
        rows = [tables.parquet(path).metadata.num_rows for path in found]
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
        first = episode.start == starts[owner]
        expected = {found[owner], _before(root, info, found[owner]) if first else found[owner]}
        if episode.stop > ends[owner] or episode.data not in expected:
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


def _before(root: Path, info: Mapping[str, Any], path: Path) -> Path:
    """The file whose number comes before that of ``path``, whether it exists or not."""
    places = re.fullmatch(r"data/chunk-(\d+)/file-(\d+)\.parquet", path.relative_to(root).as_posix())
    if places is None:
        return path
    chunk, file = int(places[1]), int(places[2])
    last = info.get("chunks_size", 1000)
    if file == 0 and (chunk == 0 or not isinstance(last, int)):
        return path
    chunk, file = (chunk, file - 1) if file else (chunk - 1, last - 1)
    return root / layout.DATA.format(chunk_index=chunk, file_index=file)
