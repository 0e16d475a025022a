"""Writer of LeRobotDataset v3.0 folders: many episodes per file, with files rolled over by size."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import layout, seals, spans, tables, video
from wamkit.data.episode import Episode, check_episode, check_specs, frame_columns
from wamkit.data.files import DEFAULT_STORAGE, Storage, TableFiles, VideoFiles
from wamkit.data.replacement import Replacement
from wamkit.data.stats import STATISTICS, FeatureStats, PixelCounts, acted_frames, vector_stats
from wamkit.errors import DataError
from wamkit.storage.documents import write_document


class DatasetWriter:
    """Context manager that records episodes into a new dataset.

    Everything is written to ``<root>.partial``, which is renamed to ``<root>`` on a clean exit; after an error or a
    kill there is nothing at ``<root>``, or what was there before. A partial recording left by a killed process is
    discarded. While one recording is under way, a second one to the same folder is refused.

    Args:
        root: folder of the new dataset.
        observation: cameras, state and rate.
        action: action entries, limits and rate.
        robot_type: free text for ``info.json``.
        extras: name -> (shape of one frame, numpy dtype) of ground truth stored beside the observations.
        overwrite: true to replace an existing dataset at ``root``.
        storage: file sizes and video encoding.
        made_of: document that says what the recording is made of, stored beside ``info.json``, or None.
        actionless: true to declare that some episodes have no actions, such as videos of people. Every frame then says
            whether it has one (feature ``has_action``).

    Raises:
        DataError: ``root`` exists or cannot be a folder, or an episode does not fit the specs.
        SpecError: the specs cannot be stored.
        BusyError: another process records to ``root``; raised on entering.
    """

    def __init__(
        self,
        root: Path | str,
        observation: ObservationSpec,
        action: ActionSpec,
        *,
        robot_type: str = "unknown",
        extras: Mapping[str, tuple[tuple[int, ...], str]] = {},
        overwrite: bool = False,
        storage: Storage = DEFAULT_STORAGE,
        made_of: Mapping[str, Any] | None = None,
        actionless: bool = False,
    ) -> None:
        check_specs(observation, action, extras, storage.pixel_format)
        self._root = Path(root)
        self._target = Replacement(self._root, overwrite)
        self._partial = self._target.partial
        self._held = contextlib.ExitStack()
        self._fault: str | None = "episodes are added inside `with DatasetWriter(...) as writer:`"
        self._robot_type, self._storage, self._made_of = robot_type, storage, made_of
        self._observation, self._action, self._extras = observation, action, dict(extras)
        self._actionless = actionless
        self._rate = video.frame_rate(action.rate_hz)
        self._target.check()
        self._data = TableFiles(self._partial, layout.DATA, storage)
        self._videos = {
            name: VideoFiles(self._partial, layout.IMAGE_PREFIX + name, self._rate, storage)
            for name in observation.cameras
        }
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._frames = 0
        self._pixels = {name: PixelCounts() for name in observation.cameras}

    def __enter__(self) -> DatasetWriter:
        self._held.enter_context(self._target.begin())
        self._fault = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:  # clears what is partial and lets go of the folder, whatever happens
            self._close_files()
            if kind is None:
                self._require_whole()
                self._finish()
            self._fault = "the recording has ended; begin another one"

    def add(self, episode: Episode) -> None:
        """Append one episode.

        Raises:
            DataError: the episode does not fit the specs; the message names episode and field.
        """
        self._require_whole()
        index = len(self._rows)
        place = f"{self._root}, episode {index}"
        check_episode(episode, self._observation, self._action, self._extras, place, self._actionless)
        self._fault = f"writing episode {index} was interrupted half way; record the dataset again"
        columns = self._columns(episode, index)
        chunk, file = self._data.place(len(episode))
        self._data.add(pa.table({name: tables.column(values) for name, values in columns.items()}))
        row: dict[str, Any] = {
            "episode_index": index,
            "tasks": [episode.task],
            "length": len(episode),
            "success": episode.success,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + len(episode),
        }
        stats = {name: vector_stats(values) for name, values in columns.items()}
        for name, files in self._videos.items():
            row.update(files.add(episode.images[name]))
            counts = PixelCounts()
            counts.add(episode.images[name])
            self._pixels[name].merge(counts)
            stats[layout.IMAGE_PREFIX + name] = counts.stats()
        row.update(_stats_row(stats))
        self._rows.append(row)
        self._frames += len(episode)
        self._fault = None

    def _require_whole(self) -> None:
        if self._fault is not None:
            raise DataError(f"{self._root}: {self._fault}")

    def _columns(self, episode: Episode, index: int) -> dict[str, np.ndarray]:
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        return frame_columns(episode, index, self._frames, task, self._action, self._actionless)

    def _close_files(self) -> None:
        with contextlib.ExitStack() as stack:  # closes the rest when one of them fails
            stack.callback(self._data.close)
            for files in self._videos.values():
                stack.callback(files.close)

    def _finish(self) -> None:
        """Write ``meta/`` and move the dataset to its root."""
        if not self._rows:
            raise DataError(f"{self._root}: no episode was added, so no dataset is written")
        self._write_episodes()
        tables.write_tasks(self._partial / layout.TASKS, list(self._tasks))
        stats = {name: value.to_json() for name, value in self._stats().items()}
        (self._partial / layout.STATS).write_text(json.dumps(stats, indent=4), encoding="utf-8")
        if self._made_of is not None:
            write_document(self._partial / layout.INPUTS, self._made_of)
        info = json.dumps(self._info(stats), indent=4, ensure_ascii=False)
        (self._partial / layout.INFO).write_text(info, encoding="utf-8")
        self._target.finish()

    def _write_episodes(self) -> None:
        files = TableFiles(self._partial, layout.EPISODES, self._storage)
        group = 50  # episodes that are written, and rolled over, together
        for start in range(0, len(self._rows), group):
            rows = self._rows[start : start + group]
            chunk, file = files.place(len(rows))
            for row in rows:
                row.update({"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file})
            files.add(pa.Table.from_pylist(rows))
        files.close()

    def _stats(self) -> dict[str, FeatureStats]:
        """Compute statistics of the whole dataset; columns are read back one at a time to save memory."""
        out = {layout.IMAGE_PREFIX + name: counts.stats() for name, counts in self._pixels.items()}
        for name, feature in self._features().items():
            if feature["dtype"] != "video":
                out[name] = vector_stats(self._column(name, feature))
        if self._actionless:
            features = self._features()
            acted = self._column(layout.ACTED_KEY, features[layout.ACTED_KEY])
            action = self._column(layout.ACTION_KEY, features[layout.ACTION_KEY])
            out[layout.ACTION_KEY] = vector_stats(acted_frames(action, acted))
        return out

    def _column(self, name: str, feature: Mapping[str, Any]) -> np.ndarray:
        """Read a column of the whole dataset back, (N, ...)."""
        shape = () if feature["shape"] == [1] else tuple(feature["shape"])
        paths = sorted(self._partial.glob("data/*/*.parquet"))
        parts = [tables.to_numpy(tables.read(p, [name]), name, shape, feature["dtype"], p) for p in paths]
        return np.concatenate(parts)

    def _features(self) -> dict[str, dict[str, Any]]:
        stream = {
            "video.codec": "h264",
            "video.pix_fmt": self._storage.pixel_format,
            "video.is_depth_map": False,
            "video.fps": _number(self._rate),
            "video.channels": 3,
            "has_audio": False,
        }
        return layout.features(self._observation, self._action, self._extras, stream, self._actionless)

    def _info(self, stats: Mapping[str, Any]) -> dict[str, Any]:
        features = self._features()
        specs = layout.specs_to_json(self._observation, self._action, self._extras)
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self._robot_type,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": self._storage.chunks_size,
            "data_files_size_in_mb": self._storage.data_file_mb,
            "video_files_size_in_mb": self._storage.video_file_mb,
            "fps": _number(self._rate),
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self._observation.cameras else None,
            "features": features,
            layout.SPEC_KEY: {
                **specs,
                **seals.seals(self._partial, features, stats),
                spans.DIGESTS: {
                    path.relative_to(self._partial).as_posix(): value
                    for files in self._videos.values()
                    for path, value in files.digests.items()
                },
            },
        }


def _number(rate: video.Fraction) -> int | float:
    return rate.numerator if rate.denominator == 1 else float(rate)


def _stats_row(stats: Mapping[str, FeatureStats]) -> dict[str, Any]:
    return {
        f"stats/{feature}/{name}": tables.nested(getattr(value, name))
        for feature, value in stats.items()
        for name in STATISTICS
    }
