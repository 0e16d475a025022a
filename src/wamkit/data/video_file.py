"""Random access to the pictures of one video file, each found by its number and never by hope.

FFmpeg conceals damage: it repeats a picture, or predicts from one that it never had. Here every packet's time is listed
first, every decoded picture must have the time of the one that is asked for, and an error of the decoder is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from wamkit.data.tables import COPY_AGAIN
from wamkit.data.video import open_video, pixel_fault, tick
from wamkit.errors import DataError

# Errors of the stream are raised instead of being concealed ("ec": error concealment). Not every flipped bit is an
# error of the stream: half of them decode to other pixels, which is why the writer stores a digest of every video.
STRICT = {"err_detect": "explode", "ec": "0"}


def digest(path: Path) -> str:
    """Hash of a file's bytes, as the writer stores it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_recorded(path: Path, expected: str, place: str) -> None:
    """Raise :class:`DataError` unless the file has the digest that the writer stored."""
    try:
        found = digest(path)
    except OSError as error:
        raise DataError(f"{place}, {path}: cannot be read ({error.strerror}). {COPY_AGAIN}") from error
    if found != expected:
        raise DataError(
            f"{place}, {path}: the bytes are not those that were recorded (their SHA-256 differs from info.json), so a "
            f"picture may be another. {COPY_AGAIN} If you changed the file on purpose, accept it with "
            f"wamkit.data.rebuild_stats(root), or remove 'videos' from the key 'wamkit' of meta/info.json."
        )


class VideoFile:
    """Pictures of a video by number, in the order in which they are shown. Not thread-safe.

    Args:
        path: the file, in any codec that FFmpeg decodes.
        place: dataset, episodes and camera, for messages.

    Attributes:
        times: times of all pictures (F,), ascending, seconds.

    Raises:
        DataError: the file cannot be read, or a picture has no time of its own.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._source: av.container.InputContainer | None = None
        self._pictures: Iterator[av.VideoFrame] | None = None
        # One converter for all pictures: a frame's own to_ndarray() creates one each time, which is 4 times slower.
        self._converter = VideoReformatter()
        self._next = 0  # number of the picture that the decoder is expected to give next
        try:
            with open_video(path) as source:
                stream = source.streams.video[0]
                packets = [
                    (p.pts, p.is_keyframe) for p in source.demux(stream) if p.size and not p.is_discard
                ]
                unit = tick(stream)
        except (av.FFmpegError, OSError, IndexError) as error:
            raise DataError(f"{place}, {path}: cannot be read as a video ({error}). {COPY_AGAIN}") from error
        if not packets or any(pts is None for pts, _ in packets):
            raise DataError(f"{place}, {path}: the video has pictures without a time, or none. {COPY_AGAIN}")
        shown = sorted((pts or 0, key) for pts, key in packets)
        self._ticks = np.array([pts for pts, _ in shown], dtype=np.int64)
        self._numbers = {pts: number for number, (pts, _) in enumerate(shown)}
        keys = np.flatnonzero([key for _, key in shown])
        before = np.searchsorted(keys, np.arange(len(shown)), side="right")
        self._keys = np.where(before > 0, keys[before - 1], 0).tolist() if len(keys) else [0] * len(shown)
        self._good: set[str] = set()  # pixel formats that were found good
        self.times: np.ndarray = self._ticks * float(unit)
        same = np.flatnonzero(np.diff(self._ticks) == 0)
        if len(same):
            raise DataError(
                f"{place}, {path}: pictures {same[0]} and {same[0] + 1} of the video are both shown at "
                f"{self.times[same[0]]:.6f} s, so that it is not known which one was recorded. Encode it again."
            )

    def picture(self, number: int, place: Callable[[], str]) -> np.ndarray:
        """Decode one picture (H, W, 3), uint8; fastest when numbers ascend.

        Args:
            number: number of the picture in the file.
            place: gives dataset, episode, frame and camera, for messages.

        Raises:
            DataError: the picture is missing or damaged, or is not 8-bit RGB.
        """
        try:
            frame = self._decode(number, self._keys[number])
        except (av.FFmpegError, OSError, _LostError) as first:
            self.close()
            try:  # some streams can be decoded from their start only
                frame = self._decode(number, 0)
            except (av.FFmpegError, OSError, _LostError):
                self.close()
                raise DataError(
                    f"{place()}, {self._path}: picture {number} of the video cannot be decoded ({first}). The file is "
                    f"damaged. {COPY_AGAIN}"
                ) from first
        if frame.format.name not in self._good or frame.rotation:
            fault = pixel_fault(frame.format)
            if frame.rotation:
                fault = f"it is to be shown turned by {frame.rotation} degrees. Encode the video again the right way up"
            if fault:
                raise DataError(f"{place()}, {self._path}: {fault}.")
            self._good.add(frame.format.name)
        return self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray()

    def close(self) -> None:
        """Close the file; the next picture opens it again."""
        if self._source is not None:
            self._source.close()
        self._source = self._pictures = None

    def _decode(self, number: int, key: int) -> av.VideoFrame:
        """Decode from picture ``key`` on, or from where the decoder is when that is nearer, up to ``number``."""
        if self._pictures is None or not key <= self._next <= number:
            self._pictures = self._seek(key)
            self._next = -1
        for frame in self._pictures:
            found = -1 if frame.pts is None else self._numbers.get(frame.pts, -1)
            if found < 0:
                raise _LostError(f"the decoder gave a picture at {frame.pts}, which the file does not list")
            if found < key:  # shown before the key frame: decoded without the pictures it refers to
                continue
            if frame.is_corrupt or found > number or (self._next >= 0 and found != self._next):
                raise _LostError(f"the decoder gave picture {found}" + ", damaged" * frame.is_corrupt)
            self._next = found + 1
            if found == number:
                return frame
        raise _LostError("the stream ends before it")

    def _seek(self, key: int) -> Iterator[av.VideoFrame]:
        if self._source is None:
            self._source = open_video(self._path)
            self._source.streams.video[0].codec_context.options = STRICT
        stream = self._source.streams.video[0]
        self._source.seek(int(self._ticks[key]), stream=stream, backward=True)
        return self._source.decode(stream)


class _LostError(Exception):
    """A picture that the decoder should have given and did not."""
