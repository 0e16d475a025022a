"""Decoding of single frames of all cameras, sized for the design that reads them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from wamkit.contract.specs import CameraSpec
from wamkit.data import faults, spans
from wamkit.data.catalog import EpisodeRow
from wamkit.data.pictures import PictureTable
from wamkit.data.video_file import VideoFile, require_recorded
from wamkit.errors import DataError
from wamkit.views.pictures import Sizing

OPEN_FILES = 16

Put = Callable[[int, np.ndarray], None]


class Source(Protocol):
    """One camera's frames in one file."""

    def read(self, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield every one of the global frame numbers ``frames``, ascending, with its image (H, W, 3), uint8."""
        ...

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        ...


class FrameReader:
    """Decoder of single frames. Thread-safe.

    Args:
        episodes: the episode table.
        cameras: camera name -> spec of the recorded pictures.
        keys: camera name -> feature key.
        rate: frames per second.
        name: name of the dataset in messages.
        digests: video file -> SHA-256 of the bytes that were recorded, for the files for which it is stored.
        sizing: camera name -> change of the pictures' size; those without an entry stay as they are.

    Attributes:
        episodes: the episode table.
        name: name of the dataset in messages.
        shapes: camera name -> rows and columns of the frames that are read.
    """

    def __init__(
        self,
        episodes: Sequence[EpisodeRow],
        cameras: Mapping[str, CameraSpec],
        keys: Mapping[str, str],
        rate: float,
        name: str,
        digests: Mapping[Path, str] = {},
        sizing: Mapping[str, Sizing] = {},
    ) -> None:
        self.episodes, self._cameras, self._keys = episodes, cameras, keys
        self._rate, self.name, self._digests, self._sizing = rate, name, digests, sizing
        self.shapes = {
            camera: sizing[camera].target if camera in sizing else (spec.height, spec.width)
            for camera, spec in cameras.items()
        }
        # Cameras are read at the same time, each from files of its own.
        self._locks = {camera: threading.RLock() for camera in cameras}
        self._starts = np.array([e.start for e in episodes])
        self._sources: dict[tuple[str, Path], Source] = {}
        self._open: dict[str, OrderedDict[Path, Source]] = {camera: OrderedDict() for camera in cameras}

    @property
    def recorded_pixels(self) -> int:
        """Number of pixels of all recorded pictures, which is what decoding takes time for."""
        return sum(self.episodes[-1].stop * c.height * c.width for c in self._cameras.values())

    def another(self) -> FrameReader:
        """A reader of the same frames with files of its own, for another thread."""
        return FrameReader(
            self.episodes, self._cameras, self._keys, self._rate, self.name, self._digests, self._sizing
        )

    def empty(self, camera: str, frames: int) -> np.ndarray:
        """Room for ``frames`` pictures, (frames, 3, H, W), uint8."""
        return np.empty((frames, 3, *self.shapes[camera]), dtype=np.uint8)

    def read(self, camera: str, frames: np.ndarray, put: Put) -> None:
        """Hand every one of the global frame numbers ``frames``, ascending, to ``put`` with its image (3, H, W).

        Raises:
            DataError: a picture is missing, damaged or of another size.
        """
        for frame, image in self.each(camera, frames):
            put(frame, image)

    def each(self, camera: str, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Decode the global frame numbers ``frames``, ascending, one after the other, and keep none.

        Yields:
            frame, image (3, H, W), uint8.

        Raises:
            DataError: a picture is missing, damaged or of another size.
        """
        with self._locks[camera]:
            spec, sizing = self._cameras[camera], self._sizing.get(camera)
            owners = np.searchsorted(self._starts, frames, side="right") - 1
            groups: dict[Path, list[np.ndarray]] = {}
            for owner in np.unique(owners):
                path = self._file(camera, self.episodes[owner])
                groups.setdefault(path, []).append(frames[owners == owner])
            for path, parts in groups.items():
                for frame, image in self._source(camera, path).read(np.concatenate(parts)):
                    if image.shape != (spec.height, spec.width, 3):
                        row = self.episodes[int(np.searchsorted(self._starts, frame, side="right")) - 1]
                        raise DataError(
                            f"{self.name}, {path}, episode {row.index}, camera {camera!r}: frame {frame - row.start} "
                            f"has shape {image.shape}, but info.json declares {spec}. Copy the dataset again."
                        )
                    yield frame, (image if sizing is None else sizing.image(image)).transpose(2, 0, 1)

    def check(self, camera: str, recorded: Mapping[Path, str]) -> None:
        """Decode every frame of a camera and report, episode by episode, the first that cannot be.

        Args:
            camera: name of the camera.
            recorded: video file -> digest; compared where every picture can be decoded, so that a reader without
                ``digests`` of its own says first which picture is damaged.
        """
        key = self._keys[camera]
        files: dict[Path, list[EpisodeRow]] = {}
        for row in self.episodes:
            files.setdefault(self._file(camera, row), []).append(row)
        for path, rows in files.items():
            with faults.apart("picture", file=path, feature=key) as outcome:
                if not faults.known(key, ("video", "span", "table", "column"), file=path):
                    self._source(camera, path)  # a fault of the file is none of every episode
                    for row in rows:
                        self._check_episode(camera, row)
            if path in recorded and not outcome.faults:
                with faults.apart("picture", file=path, feature=key):
                    require_recorded(path, recorded[path], f"{self.name}, camera {camera!r}")

    def _check_episode(self, camera: str, row: EpisodeRow) -> None:
        good = -1
        try:
            for frame, _ in self.each(camera, np.arange(row.start, row.stop)):
                good = frame - row.start
        except DataError as error:
            faults.report("picture", str(error), episode=row.index, frame=good + 1)

    def _file(self, camera: str, episode: EpisodeRow) -> Path:
        span = episode.videos.get(self._keys[camera])
        return span.path if span is not None else episode.data

    def _source(self, camera: str, path: Path) -> Source:
        """The camera's frames in ``path``, checked against the table on the first call."""
        which = (camera, path)
        if which not in self._sources:
            key, spec = self._keys[camera], self._cameras[camera]
            rows = [e for e in self.episodes if self._file(camera, e) == path]
            if key in rows[0].videos:
                self._sources[which] = Footage(rows, key, camera, self._rate, self.name, self._digests)
            else:
                self._sources[which] = PictureTable(rows, key, (spec.height, spec.width), self.name)
        files = self._open[camera]
        files[path] = self._sources[which]
        files.move_to_end(path)
        if len(files) > OPEN_FILES:
            files.popitem(last=False)[1].close()
        return self._sources[which]


class Footage:
    """Frames of one camera in one video file; the arguments are those of :class:`FrameReader`."""

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
