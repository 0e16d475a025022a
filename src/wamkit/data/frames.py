"""Random access to the frames of all cameras: in memory, in a cache on disk, or decoded when asked for."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from wamkit.data.frame_cache import FrameCache
from wamkit.data.frame_reader import FrameReader
from wamkit.progress import stage

SAID_FRAMES = 256  # frames between two words about how far the decoding is
GB = 1024**3
RECENT = (
    1 / 8
)  # part of the memory limit that holds the frames used last; the rest holds those that came first

LOG = logging.getLogger(__name__)


class FrameStore:
    """Images of a dataset, as (N, 3, H, W) uint8 per camera.

    With a cache, frames are read from it, and those that it does not hold yet are decoded and added. Without one, all
    frames of all cameras are decoded on the first request when they fit into ``limit_bytes``, and every further
    request is a copy. Otherwise frames are decoded on request, each from the key frame before it, and as many as fit
    are kept; a warning says what that costs and which option ends it.

    Thread-safe.

    Args:
        reader: decoder of the frames.
        limit_bytes: memory limit for decoded frames.
        cache: cache on disk; None for none.

    Attributes:
        size_bytes: size of all decoded frames.
        cache: cache on disk; None for none.
    """

    def __init__(self, reader: FrameReader, limit_bytes: int, cache: FrameCache | None = None) -> None:
        self._reader, self._limit, self.cache = reader, limit_bytes, cache
        self._lock = threading.RLock()
        self._whole: dict[str, np.ndarray] = {}
        self._kept = _Frames(limit_bytes)
        self._said = False
        self._frames = reader.episodes[-1].stop
        self.size_bytes = sum(self._frames * 3 * rows * columns for rows, columns in reader.shapes.values())

    @property
    def in_memory(self) -> bool:
        """True if all frames are kept decoded in memory."""
        return self.cache is None and self.size_bytes <= self._limit

    def describe(self) -> str:
        """One line: what decoded frames take of the memory or the disk, and which option bounds it."""
        size, limit = size_text(self.size_bytes), size_text(self._limit)
        if not self.size_bytes:
            return "no pictures are read"
        if self.cache is not None:
            there = f"{self.cache.done} of {self.cache.total} frames are there"
            return f"{size} on the disk, in {self.cache.folder} (bounded by frame_cache_gb); {there}"
        if self.in_memory:
            return f"{size} of memory (bounded by image_memory_gb: {limit})"
        return f"{size}, more than image_memory_gb allows: {limit} are kept in memory, the rest is decoded each time"

    def take(self, camera: str, index: np.ndarray) -> np.ndarray:
        """Return the images (..., 3, H, W), uint8, at global frame numbers ``index`` (...,)."""
        if self.cache is not None:
            return self.cache.take(camera, index)
        if self.in_memory:
            return np.take(self.all(camera), index, axis=0)
        frames, places = np.unique(index, return_inverse=True)
        out = self._reader.empty(camera, len(frames))
        with self._lock:
            self._say_slow()
            rows = {
                frame: row
                for row, frame in enumerate(frames.tolist())
                if not self._kept.recall((camera, frame), out[row])
            }

        def put(frame: int, image: np.ndarray) -> None:
            out[rows[frame]] = image

        self._reader.read(camera, np.array(list(rows), dtype=np.int64), put)
        with self._lock:
            for frame, row in rows.items():
                self._kept.keep((camera, frame), out[row])
        return out[places.reshape(index.shape)]

    def take_each(self, index: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Images of several cameras, as :meth:`take` returns them; those that are decoded, at the same time."""
        if len(index) < 2 or self.in_memory:
            return {camera: self.take(camera, frames) for camera, frames in index.items()}
        with ThreadPoolExecutor(len(index)) as pool:
            return dict(zip(index, pool.map(self.take, index, index.values()), strict=True))

    def all(self, camera: str) -> np.ndarray:
        """Return every frame of a camera (N, 3, H, W), decoded on the first call."""
        with self._lock:
            if camera not in self._whole:
                out = self._reader.empty(camera, self._frames)
                with stage(f"decode {camera}", len(out)) as here:

                    def put(frame: int, image: np.ndarray) -> None:
                        out[frame] = image
                        if (frame + 1) % SAID_FRAMES == 0:
                            here.advance(SAID_FRAMES)

                    self._reader.read(camera, np.arange(len(out)), put)
                    here.advance(len(out) - here.done)
                self._whole[camera] = out
            return self._whole[camera]

    def episode(self, camera: str, index: int) -> np.ndarray:
        """Decode every frame of one episode (T, 3, H, W) and keep none, for one pass over a dataset."""
        row = self._reader.episodes[index]
        out = self._reader.empty(camera, len(row))

        def put(frame: int, image: np.ndarray) -> None:
            out[frame - row.start] = image

        self._reader.read(camera, np.arange(row.start, row.stop), put)
        return out

    def _say_slow(self) -> None:
        if self._said:
            return
        self._said = True
        LOG.warning(
            "%s: all frames take %.3g GiB of memory, more than image_memory_gb = %.3g, so they are decoded again "
            "whenever they are needed, which is 100 times slower. With that much memory, set image_memory_gb to %.3g.",
            self._reader.name, self.size_bytes / GB, self._limit / GB, 1.01 * self.size_bytes / GB,
        )  # fmt: skip


def size_text(size_bytes: int) -> str:
    """Number of bytes in words: 12.3 MiB, or 4.5 GiB from half a GiB on."""
    return f"{size_bytes / GB:.3g} GiB" if size_bytes >= GB / 2 else f"{size_bytes / 1024**2:.3g} MiB"


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
