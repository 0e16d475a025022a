"""Decoded frames on disk: sized for a view, memory-mapped, filled in the background and shared by processes.

An entry of the cache is a folder, named by the content of the dataset and by the pictures of the view::

    about.json          what it is made of; written last, so that an entry without it is none
    lock                held in common by everybody who uses the entry
    <camera>.frames     (N, 3, H, W) uint8
    <camera>.done       (N,) uint8, 1 for a frame that is there

A frame is marked as done after its bytes are on the disk. Two processes that decode the same frame write the same
bytes, so they need not know of each other, and a killed one leaves nothing to repair.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.data.frame_reader import FrameReader
from wamkit.errors import DataError
from wamkit.progress import stage
from wamkit.storage.documents import write_atomically
from wamkit.storage.fingerprint import digest

GB = 1024**3
ABOUT, LOCK = "about.json", "lock"
FOLDER = "WAMKIT_CACHE"  # environment variable that names the folder of all entries
SAMPLE = 65_536  # bytes at both ends of a file that its mark is made of
CHUNK = 64  # frames that are decoded and marked together

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheLimit:
    """Where decoded frames are cached.

    Attributes:
        gb: largest size of all entries together, GiB; 0 for no cache.
        folder: folder of all entries.
        from_pixels: number of recorded pixels above which a dataset is cached; below, decoding takes seconds.
        workers: threads that fill an entry in the background.
    """

    gb: float
    folder: Path
    from_pixels: int = 1_000_000_000
    workers: int = 1


def cache_limit(gb: float) -> CacheLimit:
    """Cache of at most ``gb`` GiB in the user's folder (environment variable ``WAMKIT_CACHE``)."""
    home = (
        os.environ.get(FOLDER) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wamkit"
    )
    cores = len(os.sched_getaffinity(0))
    return CacheLimit(gb, Path(home) / "frames", workers=max(1, cores - 1))


def mark_of(root: Path) -> str:
    """Digest of a dataset: of all its files, by size, time of change and both ends, without reading them whole."""
    lines = []
    for folder in ("meta", "data", "videos"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file():
                state = path.stat()
                with path.open("rb") as file:
                    ends = file.read(SAMPLE)
                    file.seek(max(0, state.st_size - SAMPLE))
                    ends += file.read(SAMPLE)
                name = path.relative_to(root).as_posix()
                lines.append(f"{name} {state.st_size} {state.st_mtime_ns} {digest(ends)}")
    return digest("\n".join(lines).encode())


class FrameCache:
    """One entry of the cache, for the frames of one dataset in one view. Thread-safe.

    Args:
        entry: folder of the entry, made by :func:`open_cache`.
        reader: decoder of the frames that are not there yet.
        lock: file whose shared lock keeps the entry from being removed.
        workers: threads that fill it in the background.

    Attributes:
        folder: folder of the entry.
    """

    def __init__(self, entry: Path, reader: FrameReader, lock: TextIOWrapper, workers: int) -> None:
        self._reader, self._held, self._workers, self.folder = reader, lock, workers, entry
        total = reader.episodes[-1].stop
        self._frames: dict[str, np.memmap] = {}
        self._done: dict[str, np.memmap] = {}
        for camera, shape in reader.shapes.items():
            files = files_of(entry, camera)
            self._frames[camera] = np.memmap(files[0], np.uint8, "r+", shape=(total, 3, *shape))
            self._done[camera] = np.memmap(files[1], np.uint8, "r+", shape=(total,))
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._fault: DataError | None = None

    @property
    def total(self) -> int:
        """Number of frames of all cameras."""
        return sum(len(done) for done in self._done.values())

    @property
    def done(self) -> int:
        """Number of frames that are there."""
        return sum(int(done.sum(dtype=np.int64)) for done in self._done.values())

    def take(self, camera: str, index: np.ndarray) -> np.ndarray:
        """Return the images (..., 3, H, W), uint8, at global frame numbers ``index`` (...,)."""
        self.fill()
        frames, done = self._frames[camera], self._done[camera]
        wanted = np.unique(index)
        self._decode(self._reader, camera, wanted[done[wanted] == 0])
        return frames[index]

    def fill(self) -> None:
        """Start to decode what is missing in the background, once."""
        with self._lock:
            if self._threads or self._stop.is_set():
                return
            parts = np.array_split(np.arange(len(self._reader.episodes)), self._workers)
            for part in parts:
                thread = threading.Thread(
                    target=self._fill, args=(part.tolist(),), name="frame cache", daemon=True
                )
                self._threads.append(thread)
            # Threads that decode while the interpreter ends would crash it.
            atexit.register(self.close)
        if self.done < self.total:
            for thread in self._threads:
                thread.start()

    def wait(self) -> None:
        """Wait until every frame is there.

        Raises:
            DataError: a frame cannot be decoded.
        """
        self.fill()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """Stop filling; frames that are there stay."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._held.close()

    def _fill(self, episodes: Sequence[int]) -> None:
        """Decode the missing frames of some episodes."""
        reader = self._reader.another()
        pieces = [
            (camera, np.arange(first, min(first + CHUNK, row.stop)))
            for row in map(reader.episodes.__getitem__, episodes)
            for camera in self._done
            for first in range(row.start, row.stop, CHUNK)
        ]
        try:
            with stage("cache frames", sum(len(frames) for _, frames in pieces)) as here:
                for camera, frames in pieces:
                    if self._stop.is_set():
                        return
                    self._decode(reader, camera, frames[self._done[camera][frames] == 0])
                    here.advance(len(frames))
        except DataError as error:
            # Whoever asks for the frame meets the error itself; until then nothing is lost.
            self._fault = error
            LOG.warning("%s: the cache stays incomplete: %s", reader.name, error)

    def _decode(self, reader: FrameReader, camera: str, frames: np.ndarray) -> None:
        if not len(frames):
            return
        held = self._frames[camera]

        def put(frame: int, image: np.ndarray) -> None:
            held[frame] = image

        reader.read(camera, frames, put)
        held.flush()
        self._done[camera][frames] = 1


def files_of(entry: Path, camera: str) -> tuple[Path, Path]:
    """Files of a camera's frames and of their marks."""
    return entry / f"{camera}.frames", entry / f"{camera}.done"


def open_cache(
    reader: FrameReader, root: Path, view: Mapping[str, Any], limit: CacheLimit
) -> FrameCache | None:
    """Open the entry of a dataset in a view, made new where there is none.

    Entries of the same folder with another content are removed, and the longest unused ones while there is no room.

    Args:
        reader: decoder of the frames.
        root: folder of the dataset.
        view: what of a view changes the pictures.
        limit: where entries lie, and how large they may be together.

    Returns:
        The cache; None where nothing is to be cached, or where there is no room, which is said.
    """
    if not limit.gb or reader.recorded_pixels < limit.from_pixels:
        return None
    about = {"dataset": str(root.resolve()), "view": dict(view), "mark": mark_of(root)}
    entry = limit.folder / digest(json.dumps(about, sort_keys=True).encode()).removeprefix("sha256:")[:32]
    sizes = {camera: reader.episodes[-1].stop * (3 * h * w) for camera, (h, w) in reader.shapes.items()}
    try:
        limit.folder.mkdir(parents=True, exist_ok=True)
        with (limit.folder / LOCK).open("a") as turn:  # one process at a time makes and removes entries
            fcntl.flock(turn, fcntl.LOCK_EX)
            if not (entry / ABOUT).is_file():
                if not make_room(limit, about, sum(sizes.values())):
                    LOG.warning(
                        "%s: decoded frames take %.3g GiB, and frame_cache_gb is %.3g in %s, so they are not kept on "
                        "the disk. Set frame_cache_gb to more, or to 0 to say so.",
                        root, sum(sizes.values()) / GB, limit.gb, limit.folder,
                    )  # fmt: skip
                    return None
                make_entry(entry, sizes, reader.episodes[-1].stop, about)
            (entry / ABOUT).touch()  # the time of last use
            held = (entry / LOCK).open("a")
            fcntl.flock(held, fcntl.LOCK_SH)
    except OSError as error:
        if not (entry / ABOUT).is_file():
            shutil.rmtree(entry, ignore_errors=True)
        LOG.warning(
            "%s: no cache of decoded frames in %s (%s). Free space there, name another folder in the environment "
            "variable %s, or set frame_cache_gb to 0.", root, limit.folder, error.strerror or error, FOLDER,
        )  # fmt: skip
        return None
    return FrameCache(entry, reader, held, limit.workers)


def make_room(limit: CacheLimit, about: Mapping[str, Any], needed: int) -> bool:
    """Remove entries of a changed dataset, then the longest unused ones, until ``needed`` bytes fit; false if not."""
    entries = sorted(limit.folder.glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime)
    for path in [*entries]:
        old = json.loads(path.read_text(encoding="utf-8"))
        changed = old["dataset"] == about["dataset"] and old["mark"] != about["mark"]
        if changed and remove(path.parent):
            entries.remove(path)
    sizes = {path: sum(file.stat().st_size for file in path.parent.iterdir()) for path in entries}
    for path in entries:
        if sum(sizes.values()) + needed <= limit.gb * GB:
            break
        if remove(path.parent):
            del sizes[path]
    return sum(sizes.values()) + needed <= limit.gb * GB


def remove(entry: Path) -> bool:
    """Remove an entry; false when somebody uses it."""
    with (entry / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(entry)
    return True


def make_entry(entry: Path, sizes: Mapping[str, int], frames: int, about: Mapping[str, Any]) -> None:
    """Make an empty entry with all its room; raises :class:`OSError` when the disk is full."""
    shutil.rmtree(entry, ignore_errors=True)  # one that was never finished
    entry.mkdir(parents=True)
    for camera, size in sizes.items():
        for path, length in zip(files_of(entry, camera), (size, frames), strict=True):
            with path.open("wb") as file:
                # A hole in the file would end the process at the first write to a full disk.
                os.posix_fallocate(file.fileno(), 0, length)
    (entry / LOCK).touch()
    write_atomically(entry / ABOUT, json.dumps(about, indent=1).encode())
