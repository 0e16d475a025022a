"""Parts of videos copied packet by packet: nothing is decoded, so nothing is lost.

A part can be cut out when its first picture is a key frame and its packets follow each other in the file: then no
picture of it refers to one outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from wamkit.data.tables import COPY_AGAIN
from wamkit.data.video import local, open_video, tick
from wamkit.errors import DataError, reason


@dataclass(frozen=True)
class Clip:
    """Pictures of one episode in a video file.

    Attributes:
        path: the file.
        first: number of the episode's first picture, in the order in which they are shown.
        count: number of its pictures.
        place: file, episode and camera, for messages.
    """

    path: Path
    first: int
    count: int
    place: str


@dataclass(frozen=True)
class Packets:
    """Packets of a video file, in the order in which they are stored.

    Attributes:
        pts: times at which they are shown (P,), in units of the stream.
        keys: (P,) bool, True for key frames.
        delay: time by which the first packet is decoded before it is shown, in units of the stream.
        unit: seconds per unit.
        orderly: true if every packet has a time at which it is decoded, and that is not after it is shown.
        coding: what has to be equal in two files for their packets to stand in one stream.
    """

    pts: np.ndarray
    keys: np.ndarray
    delay: int
    unit: Fraction
    orderly: bool
    coding: tuple[Any, ...]

    @property
    def times(self) -> np.ndarray:
        """Times of the pictures (P,) in the order in which they are shown, seconds."""
        return np.sort(self.pts) * float(self.unit)

    def fault(self, clip: Clip) -> str | None:
        """Why a clip cannot be copied without decoding; None where it can."""
        if not self.orderly:
            return "its packets have no times of decoding that an mp4 file can hold"
        shown = np.argsort(self.pts, kind="stable")[clip.first : clip.first + clip.count]
        low = int(shown.min())
        if not self.keys[shown[0]]:
            return f"its first picture, number {clip.first} of the file, is no key frame"
        if low != shown[0] or int(shown.max()) - low + 1 != clip.count:
            return (
                f"pictures of other episodes stand between its own in the file, from number {clip.first} on"
            )
        return None

    def whole(self, clip: Clip) -> bool:
        """Whether a clip is all of the file."""
        return clip.count == len(self.pts)


def read_packets(path: Path, place: str) -> Packets:
    """List the packets of a file.

    Raises:
        DataError: the file cannot be read, or a packet has no time.
    """
    try:
        with open_video(path) as source:
            stream = source.streams.video[0]
            found: list[tuple[Any, Any, bool]] = [
                (p.pts, p.dts, p.is_keyframe) for p in source.demux(stream) if p.size and not p.is_discard
            ]
            unit, context = tick(stream), stream.codec_context
            pixels = None if context.format is None else context.format.name
            coding = (
                context.name,
                stream.width,
                stream.height,
                pixels,
                bytes(context.extradata or b""),
                unit,
            )
    except FileNotFoundError as error:
        raise DataError(f"{place}, {path}: the video file is missing. {COPY_AGAIN}") from error
    except (av.FFmpegError, OSError, IndexError, AttributeError) as error:
        raise DataError(
            f"{place}, {path}: cannot be read as a video, probably cut off ({reason(error)}). {COPY_AGAIN}"
        ) from error
    if not found or any(pts is None for pts, _, _ in found):
        raise DataError(f"{place}, {path}: the video has pictures without a time, or none. {COPY_AGAIN}")
    pts = np.array([entry[0] for entry in found], dtype=np.int64)
    orderly = all(dts is not None and dts <= shown for shown, dts, _ in found)
    delay = int(found[0][0] - found[0][1]) if orderly else 0
    return Packets(pts, np.array([entry[2] for entry in found]), delay, unit, orderly, (*coding, delay))


def copy_clips(clips: Sequence[tuple[Clip, Packets]], out: Path, rate: Fraction) -> None:
    """Write clips one after the other into one file, each beginning where the frames before it end.

    Args:
        clips: parts of files of one coding, each of which can be copied (:meth:`Packets.fault`), with their files'
            packets.
        out: the new mp4 file.
        rate: frames per second of the dataset.

    Raises:
        DataError: a packet cannot be read or written.
    """
    done = 0
    with av.open(local(out), "w", format="mp4") as output:
        target: av.VideoStream | None = None
        for clip, packets in clips:
            begin = round(done / rate / packets.unit)
            try:
                with open_video(clip.path) as source:
                    origin = source.streams.video[0]
                    if target is None:
                        target = output.add_stream_from_template(origin, opaque=True)
                        target.time_base = packets.unit
                    _copy(source, output, target, packets, clip, begin)
            except (av.FFmpegError, ValueError) as error:  # the disk's errors are told as such
                raise DataError(
                    f"{clip.place}, {clip.path}: cannot be copied ({reason(error)}). {COPY_AGAIN}"
                ) from error
            done += clip.count


def _copy(
    source: av.container.InputContainer,
    output: av.container.OutputContainer,
    target: av.VideoStream,
    packets: Packets,
    clip: Clip,
    start: int,
) -> None:
    """Copy the packets of one clip so that its first picture is shown at ``start``."""
    origin = source.streams.video[0]
    begin = int(np.sort(packets.pts)[clip.first])
    low = int(np.flatnonzero(packets.pts == begin)[0])
    wanted = packets.pts[low : low + clip.count].tolist()
    if low:
        source.seek(begin, stream=origin, backward=True)
    copied = 0
    for packet in source.demux(origin):
        if copied == len(wanted):
            break
        if not packet.size or packet.is_discard or packet.pts is None or packet.dts is None:
            continue
        if packet.pts != wanted[copied]:
            if copied:
                break
            continue
        packet.pts, packet.dts = packet.pts - begin + start, packet.dts - begin + start
        packet.stream = target
        output.mux(packet)
        copied += 1
    if copied != len(wanted):
        raise DataError(
            f"{clip.place}, {clip.path}: only {copied} of {len(wanted)} pictures could be copied. {COPY_AGAIN}"
        )
