"""Random access to the frames of all cameras, decoded once into memory or, when memory is short, per episode."""

from __future__ import annotations

import io
import itertools
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress

from wamkit.contract.specs import CameraSpec
from wamkit.data import tables, video
from wamkit.data.catalog import EpisodeRow
from wamkit.errors import DataError

BAR_FROM_FRAMES = 10_000


class FrameStore:
    """Images of a dataset, as (N, 3, H, W) uint8 per camera.

    When all frames of all cameras fit into ``limit_bytes``, they are decoded on the first request, and every further
    request is a copy. Otherwise episodes are decoded on request and the least recently used ones are dropped, which is
    slow when requests jump between more episodes than fit.

    Thread-safe.

    Args:
        episodes: the episode table.
        cameras: camera name -> its spec.
        keys: camera name -> feature key.
        rate: frames per second.
        limit_bytes: memory limit for decoded frames.
        name: name of the dataset in messages.
    """

    def __init__(
        self,
        episodes: Sequence[EpisodeRow],
        cameras: Mapping[str, CameraSpec],
        keys: Mapping[str, str],
        rate: float,
        limit_bytes: int,
        name: str,
    ) -> None:
        self._episodes, self._cameras, self._keys = episodes, cameras, keys
        self._rate, self._limit, self._name = rate, limit_bytes, name
        self._lock = threading.RLock()
        self._whole: dict[str, np.ndarray] = {}
        self._recent: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._starts = np.array([e.start for e in episodes])
        frames = episodes[-1].stop
        self.size_bytes = sum(frames * c.channels * c.height * c.width for c in cameras.values())

    @property
    def in_memory(self) -> bool:
        """True if all frames are kept decoded."""
        return self.size_bytes <= self._limit

    def take(self, camera: str, index: np.ndarray) -> np.ndarray:
        """Return the images (..., 3, H, W), uint8, at global frame numbers ``index`` (...,)."""
        if self.in_memory:
            return np.take(self.all(camera), index, axis=0)
        flat = index.ravel()
        owners = np.searchsorted(self._starts, flat, side="right") - 1
        spec = self._cameras[camera]
        out = np.empty((len(flat), 3, spec.height, spec.width), dtype=np.uint8)
        for owner in np.unique(owners):
            rows = np.flatnonzero(owners == owner)
            out[rows] = self.episode(camera, int(owner))[flat[rows] - self._starts[owner]]
        return out.reshape(*index.shape, *out.shape[1:])

    def all(self, camera: str) -> np.ndarray:
        """Return every frame of a camera (N, 3, H, W), decoded on the first call."""
        with self._lock:
            if camera not in self._whole:
                spec = self._cameras[camera]
                out = np.empty((self._episodes[-1].stop, 3, spec.height, spec.width), dtype=np.uint8)
                self._decode_all(camera, out)
                self._whole[camera] = out
            return self._whole[camera]

    def episode(self, camera: str, index: int) -> np.ndarray:
        """Return every frame of one episode (T, 3, H, W), which is cached until memory is needed for others."""
        with self._lock:
            key = (camera, index)
            if key not in self._recent:
                spec = self._cameras[camera]
                frames = np.empty((len(self._episodes[index]), 3, spec.height, spec.width), dtype=np.uint8)
                self._decode(camera, [self._episodes[index]], frames)
                self._recent[key] = frames
                while len(self._recent) > 1 and sum(f.nbytes for f in self._recent.values()) > self._limit:
                    self._recent.popitem(last=False)
            self._recent.move_to_end(key)
            return self._recent[key]

    def _decode_all(self, camera: str, out: np.ndarray) -> None:
        groups: dict[Path, list[EpisodeRow]] = defaultdict(list)
        for episode in self._episodes:
            groups[self._file(camera, episode)].append(episode)
        with Progress(transient=True, disable=len(out) < BAR_FROM_FRAMES) as bar:
            task = bar.add_task(f"decoding {camera}", total=len(out))
            for group in groups.values():
                for run in _runs(group, self._keys[camera], self._rate):
                    self._decode(camera, run, out[run[0].start : run[-1].stop])
                    bar.advance(task, run[-1].stop - run[0].start)

    def _file(self, camera: str, episode: EpisodeRow) -> Path:
        span = episode.videos.get(self._keys[camera])
        return span.path if span is not None else episode.data

    def _decode(self, camera: str, run: Sequence[EpisodeRow], out: np.ndarray) -> None:
        """Decode consecutive episodes of one file into ``out`` (T, 3, H, W)."""
        key = self._keys[camera]
        spec = self._cameras[camera]
        last = "" if len(run) == 1 else f" to {run[-1].index}"
        place = f"{self._name}, episode {run[0].index}{last}, camera {camera!r}"

        def put(frame: int, image: np.ndarray) -> None:
            if image.shape != (spec.height, spec.width, 3):
                raise DataError(
                    f"{place}: frame {frame} has shape {image.shape}, but info.json declares {spec}"
                )
            out[frame] = image.transpose(2, 0, 1)

        if key in run[0].videos:
            span = run[0].videos[key]
            video.decode_video(span.path, span.start_s, len(out), self._rate, place, put)
        else:
            _read_pictures(run[0], key, len(out), place, put)


def _runs(group: Sequence[EpisodeRow], key: str, rate: float) -> list[list[EpisodeRow]]:
    """Split the episodes of one file into runs without gaps, each of which is decoded in one pass."""
    runs = [[group[0]]]
    for before, episode in itertools.pairwise(group):
        adjacent = before.stop == episode.start and key in episode.videos
        if adjacent:
            expected = runs[-1][0].videos[key].start_s + (episode.start - runs[-1][0].start) / rate
            adjacent = abs(episode.videos[key].start_s - expected) < 1e-5
        if adjacent:
            runs[-1].append(episode)
        else:
            runs.append([episode])
    return runs


def _read_pictures(
    episode: EpisodeRow, key: str, frames: int, place: str, put: Callable[[int, np.ndarray], None]
) -> None:
    """Read images stored in the parquet file itself (dtype ``image``)."""
    table = tables.read(episode.data, ["index", key])
    first = int(np.searchsorted(table.column("index").to_numpy(), episode.start))
    for frame, cell in enumerate(table.column(key).slice(first, frames).to_pylist()):
        if not cell or not cell.get("bytes"):
            raise DataError(f"{place}, {episode.data}, field {key!r}: frame {frame} contains no image bytes")
        put(frame, np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")))
