"""Writer of LeRobotDataset v3.0 folders: many episodes per file, with files rolled over by size."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import layout, tables, video
from wamkit.data.episode import Episode, check_episode
from wamkit.data.files import DEFAULT_STORAGE, Storage, TableFiles, VideoFiles
from wamkit.data.stats import STATISTICS, FeatureStats, PixelCounts, vector_stats
from wamkit.errors import DataError, SpecError


class DatasetWriter:
    """Context manager that records episodes into a new dataset.

    Everything is written to ``<root>.partial``, which is renamed to ``<root>`` on a clean exit; after an error or a
    kill there is nothing at ``<root>``. A partial recording left by a killed process is discarded.

    Args:
        root: folder of the new dataset.
        observation: cameras, state and rate.
        action: action entries, limits and rate.
        robot_type: free text for ``info.json``.
        extras: name -> (shape of one frame, numpy dtype) of ground truth stored beside the observations.
        overwrite: true to replace an existing dataset at ``root``.
        storage: file sizes and video encoding.

    Raises:
        DataError: ``root`` exists, or an episode does not fit the specs.
        SpecError: the specs cannot be stored.
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
    ) -> None:
        _check_specs(observation, action, extras, storage.pixel_format)
        self._root = Path(root)
        self._partial = self._root.with_name(self._root.name + ".partial")
        self._overwrite, self._robot_type, self._storage = overwrite, robot_type, storage
        self._observation, self._action, self._extras = observation, action, dict(extras)
        self._rate = video.frame_rate(action.rate_hz)
        self._check_target()
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
        if self._partial.exists():
            shutil.rmtree(self._partial)
        self._partial.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close_files()
            if kind is None:
                self._finish()
        finally:
            if self._partial.exists():
                shutil.rmtree(self._partial)

    def add(self, episode: Episode) -> None:
        """Append one episode.

        Raises:
            DataError: the episode does not fit the specs; the message names episode and field.
        """
        index = len(self._rows)
        check_episode(
            episode, self._observation, self._action, self._extras, f"{self._root}, episode {index}"
        )
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

    def _columns(self, episode: Episode, index: int) -> dict[str, np.ndarray]:
        frames = len(episode)
        ticks = np.arange(frames, dtype=np.int64)
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        success = np.zeros(frames, dtype=bool)
        success[-1] = episode.success
        columns = {
            layout.STATE_KEY: episode.state,
            layout.ACTION_KEY: episode.action,
            layout.SUCCESS_KEY: success,
        }
        # A shape of (1,) is stored as a plain column, as LeRobot does.
        columns = {k: v[:, 0] if v.shape[1:] == (1,) else v for k, v in columns.items()}
        for name, values in episode.extras.items():
            columns[layout.EXTRA_PREFIX + name] = values[:, 0] if values.shape[1:] == (1,) else values
        columns["timestamp"] = (ticks / float(self._rate)).astype(np.float32)
        columns["frame_index"] = ticks
        columns["episode_index"] = np.full(frames, index, dtype=np.int64)
        columns["index"] = ticks + self._frames
        columns["task_index"] = np.full(frames, task, dtype=np.int64)
        return columns

    def _check_target(self) -> None:
        if not self._root.exists():
            return
        if not self._overwrite:
            raise DataError(
                f"{self._root} exists. Choose another folder, or pass overwrite=True to replace it."
            )
        if not (self._root / layout.INFO).is_file():
            raise DataError(
                f"{self._root} exists and is not a dataset (no {layout.INFO}), so it is not overwritten. "
                f"Choose another folder."
            )

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
        info = json.dumps(self._info(), indent=4, ensure_ascii=False)
        (self._partial / layout.INFO).write_text(info, encoding="utf-8")
        self._check_target()
        replaced = self._root.with_name(self._root.name + ".replaced")
        if self._root.exists():
            if replaced.exists():  # left by a process that was killed while replacing a dataset
                shutil.rmtree(replaced)
            self._root.rename(replaced)
        self._partial.rename(self._root)
        if replaced.exists():
            shutil.rmtree(replaced)

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
        paths = sorted(self._partial.glob("data/*/*.parquet"))
        for name, feature in self._features().items():
            if feature["dtype"] == "video":
                continue
            shape = () if feature["shape"] == [1] else tuple(feature["shape"])
            parts = [tables.to_numpy(tables.read(p, [name]), name, shape, feature["dtype"], p) for p in paths]
            out[name] = vector_stats(np.concatenate(parts))
        return out

    def _features(self) -> dict[str, dict[str, Any]]:
        stream = {
            "video.codec": "h264",
            "video.pix_fmt": self._storage.pixel_format,
            "video.is_depth_map": False,
            "video.fps": _number(self._rate),
            "video.channels": 3,
            "has_audio": False,
        }
        return layout.features(self._observation, self._action, self._extras, stream)

    def _info(self) -> dict[str, Any]:
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
            "features": self._features(),
            layout.SPEC_KEY: layout.specs_to_json(self._observation, self._action, self._extras),
        }


def _number(rate: video.Fraction) -> int | float:
    return rate.numerator if rate.denominator == 1 else float(rate)


def _stats_row(stats: Mapping[str, FeatureStats]) -> dict[str, Any]:
    return {
        f"stats/{feature}/{name}": tables.nested(getattr(value, name))
        for feature, value in stats.items()
        for name in STATISTICS
    }


def _check_specs(
    observation: ObservationSpec,
    action: ActionSpec,
    extras: Mapping[str, tuple[tuple[int, ...], str]],
    pixel_format: str,
) -> None:
    if observation.rate_hz != action.rate_hz:
        raise SpecError(
            f"a dataset has one rate, but the observation spec says {observation.rate_hz:g} Hz and "
            f"the action spec {action.rate_hz:g} Hz"
        )
    for name, camera in observation.cameras.items():
        size = f"camera {name!r} is {camera.height}x{camera.width}x{camera.channels}"
        if camera.channels != 3:
            raise SpecError(f"{size}: only RGB cameras can be stored as video; store others as extras")
        if pixel_format == "yuv420p" and (camera.height % 2 or camera.width % 2):
            raise SpecError(f"{size}: yuv420p needs even rows and columns. Use yuv444p or another size.")
    for name in (*observation.cameras, *extras):
        # LeRobot rejects "/" in a key and treats every key with "image" in it as an image.
        if "/" in name or (name in extras and "image" in name):
            raise SpecError(
                f"the name {name!r} cannot be a dataset key: names must not contain '/', nor 'image' in an extra; "
                f"rename it"
            )
