"""Random access to the frames of all cameras: decoded once into memory or, when they do not fit, when asked for."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from wamkit.contract.specs import CameraSpec
from wamkit.data import spans
from wamkit.data.catalog import EpisodeRow
from wamkit.data.pictures import PictureTable
from wamkit.data.video_file import VideoFile, require_recorded
from wamkit.errors import DataError
from wamkit.progress import stage

SAID_FRAMES = 256  # frames between two words about how far the decoding is
GB = 1024**3
OPEN_FILES = 16
RECENT = (
    1 / 8
)  # part of the memory limit that holds the frames used last; the rest holds those that came first

LOG = logging.getLogger(__name__)


class Source(Protocol):
    """One camera's frames in one file."""

    def read(self, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield every one of the global frame numbers ``frames``, ascending, with its image (H, W, 3), uint8."""
        ...

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        ...


class FrameStore:
    """Images of a dataset, as (N, 3, H, W) uint8 per camera.

    When all frames of all cameras fit into ``limit_bytes``, they are decoded on the first request, and every further
    request is a copy. Otherwise frames are decoded on request, each from the key frame before it, and as many as fit
    are kept; a warning says what that costs and which option ends it.

    Thread-safe.

    Args:
        episodes: the episode table.
        cameras: camera name -> its spec.
        keys: camera name -> feature key.
        rate: frames per second.
        limit_bytes: memory limit for decoded frames.
        name: name of the dataset in messages.
        digests: video file -> SHA-256 of the bytes that were recorded, for the files for which it is stored.
    """

    def __init__(
        self,
        episodes: Sequence[EpisodeRow],
        cameras: Mapping[str, CameraSpec],
        keys: Mapping[str, str],
        rate: float,
        limit_bytes: int,
        name: str,
        digests: Mapping[Path, str] = {},
    ) -> None:
        self._episodes, self._cameras, self._keys = episodes, cameras, keys
        self._rate, self._limit, self._name, self._digests = rate, limit_bytes, name, digests
        self._lock = threading.RLock()
        self._whole: dict[str, np.ndarray] = {}
        self._kept = _Frames(limit_bytes)
        self._starts = np.array([e.start for e in episodes])
        self._sources: dict[tuple[str, Path], Source] = {}
        self._open: OrderedDict[tuple[str, Path], Source] = OrderedDict()
        self._said = False
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
        frames, places = np.unique(index, return_inverse=True)
        with self._lock:
            self._say_slow()
            out = self._empty(camera, len(frames))
            rows = {
                frame: row
                for row, frame in enumerate(frames.tolist())
                if not self._kept.recall((camera, frame), out[row])
            }

            def put(frame: int, image: np.ndarray) -> None:
                out[rows[frame]] = image
                self._kept.keep((camera, frame), out[rows[frame]])

            self._read(camera, np.array(list(rows), dtype=np.int64), put)
        return out[places.reshape(index.shape)]

    def all(self, camera: str) -> np.ndarray:
        """Return every frame of a camera (N, 3, H, W), decoded on the first call."""
        with self._lock:
            if camera not in self._whole:
                out = self._empty(camera, self._episodes[-1].stop)
                with stage(f"decode {camera}", len(out)) as here:

                    def put(frame: int, image: np.ndarray) -> None:
                        out[frame] = image
                        if (frame + 1) % SAID_FRAMES == 0:
                            here.advance(SAID_FRAMES)

                    self._read(camera, np.arange(len(out)), put)
                    here.advance(len(out) - here.done)
                self._whole[camera] = out
            return self._whole[camera]

    def episode(self, camera: str, index: int) -> np.ndarray:
        """Decode every frame of one episode (T, 3, H, W) and keep none, for one pass over a dataset."""
        row = self._episodes[index]
        out = self._empty(camera, len(row))

        def put(frame: int, image: np.ndarray) -> None:
            out[frame - row.start] = image

        with self._lock:
            self._read(camera, np.arange(row.start, row.stop), put)
        return out

    def _empty(self, camera: str, frames: int) -> np.ndarray:
        spec = self._cameras[camera]
        return np.empty((frames, 3, spec.height, spec.width), dtype=np.uint8)

    def _say_slow(self) -> None:
        if self._said:
            return
        self._said = True
        LOG.warning(
            "%s: all frames take %.3g GiB of memory, more than image_memory_gb = %.3g, so they are decoded again "
            "whenever they are needed, which is 100 times slower. With that much memory, set image_memory_gb to %.3g.",
            self._name, self.size_bytes / GB, self._limit / GB, 1.01 * self.size_bytes / GB,
        )  # fmt: skip

    def _read(self, camera: str, frames: np.ndarray, put: Callable[[int, np.ndarray], None]) -> None:
        """Hand every one of ``frames``, ascending, to ``put`` with its image (3, H, W)."""
        spec = self._cameras[camera]
        owners = np.searchsorted(self._starts, frames, side="right") - 1
        groups: dict[Path, list[np.ndarray]] = {}
        for owner in np.unique(owners):
            path = self._file(camera, self._episodes[owner])
            groups.setdefault(path, []).append(frames[owners == owner])
        for path, parts in groups.items():
            for frame, image in self._source(camera, path).read(np.concatenate(parts)):
                if image.shape != (spec.height, spec.width, 3):
                    row = self._episodes[int(np.searchsorted(self._starts, frame, side="right")) - 1]
                    raise DataError(
                        f"{self._name}, {path}, episode {row.index}, camera {camera!r}: frame {frame - row.start} has "
                        f"shape {image.shape}, but info.json declares {spec}. Copy the dataset again."
                    )
                put(frame, image.transpose(2, 0, 1))

    def _file(self, camera: str, episode: EpisodeRow) -> Path:
        span = episode.videos.get(self._keys[camera])
        return span.path if span is not None else episode.data

    def _source(self, camera: str, path: Path) -> Source:
        """The camera's frames in ``path``, checked against the table on the first call."""
        which = (camera, path)
        if which not in self._sources:
            key, spec = self._keys[camera], self._cameras[camera]
            rows = [e for e in self._episodes if self._file(camera, e) == path]
            if key in rows[0].videos:
                self._sources[which] = _Footage(rows, key, camera, self._rate, self._name, self._digests)
            else:
                self._sources[which] = PictureTable(rows, key, (spec.height, spec.width), self._name)
        self._open[which] = self._sources[which]
        self._open.move_to_end(which)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return self._sources[which]


class _Footage:
    """Frames of one camera in one video file; the arguments are those of :class:`FrameStore`."""

    def __init__(
        self,
        rows: Sequence[EpisodeRow],
        key: str,
        camera: str,
        rate: float,
        name: str,
        digests: Mapping[Path, str],
    ) -> None:
        path, place = rows[0].videos[key].path, f"{name}, episode {rows[0].index}"
        place += f" to {rows[-1].index}, camera {camera!r}" if len(rows) > 1 else f", camera {camera!r}"
        if path in digests:
            require_recorded(path, digests[path], place)
        self._rows, self._camera, self._name = rows, camera, name
        self._file = VideoFile(path, place)
        first = spans.find_pictures(self._file.times, rows, key, camera, rate)
        self._starts = np.array([row.start for row in rows])
        self._first = np.array([first[row.index] for row in rows])

    def read(self, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield every one of ``frames``, ascending, with its image; see :class:`Source`."""
        owners = np.searchsorted(self._starts, frames, side="right") - 1
        steps = frames - self._starts[owners]
        numbers = self._first[owners] + steps
        for frame, number, owner in zip(frames.tolist(), numbers.tolist(), owners.tolist(), strict=True):
            yield frame, self._file.picture(number, partial(self._place, owner, frame))

    def _place(self, owner: int, frame: int) -> str:
        row = self._rows[owner]
        return f"{self._name}, episode {row.index}, camera {self._camera!r}, frame {frame - row.start}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Frames:
    """Decoded frames within a memory limit: the first ones stay, because training returns to every frame equally often
    and evicting one for another gains nothing; a part is for the last ones, because windows overlap."""

    def __init__(self, limit_bytes: int) -> None:
        self._room = limit_bytes * (1 - RECENT)
        self._recent_room = limit_bytes * RECENT
        self._stay: dict[tuple[str, int], np.ndarray] = {}
        self._recent: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()

    def recall(self, key: tuple[str, int], out: np.ndarray) -> bool:
        """Copy a frame to ``out``; false if it is not kept."""
        frame = self._stay.get(key)
        if frame is None:
            frame = self._recent.get(key)
            if frame is None:
                return False
            self._recent.move_to_end(key)
        out[...] = frame
        return True

    def keep(self, key: tuple[str, int], frame: np.ndarray) -> None:
        """Keep a copy of ``frame`` (3, H, W) while there is room."""
        if self._room >= frame.nbytes:
            self._room -= frame.nbytes
            self._stay[key] = frame.copy()
        elif self._recent_room >= frame.nbytes or self._recent:
            while self._recent and self._recent_room < frame.nbytes:
                self._recent_room += self._recent.popitem(last=False)[1].nbytes
            if self._recent_room >= frame.nbytes:
                self._recent_room -= frame.nbytes
                self._recent[key] = frame.copy()
