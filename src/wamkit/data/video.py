"""Encoding and decoding of camera streams: h264 in mp4, with several consecutive episodes in one file.

Every episode starts with a key frame, and frame k of a file is shown at exactly k / fps: there are no B-frames, so no
edit list shifts the first frame.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from wamkit.errors import DataError

CODEC: Final = "libx264"
# Measured on 300 MetaWorld frames of 64x64 pixels (3 tasks, 2 cameras): yuv420p stays near 30 dB PSNR at any bit
# rate, because one colour per 2x2 pixels is coarse at this size; yuv444p at crf 6 has 39.9 dB on average and 39.3 dB
# on the worst camera, at 770 bytes per frame. The preset "medium" saves 15 % of the bytes and takes twice as long.
PRESET = "veryfast"
# x264's vector code for macroblock-tree rate control reads uninitialised memory when a frame is a few blocks wide:
# 52 of 1000 encodings of the same 60 frames of 32x32 pixels differed; with this option none of 2000 did.
REPEATABLE = "cpu-independent=1"
PIXEL_FORMATS = ("yuv444p", "yuv420p")
PIXEL_FORMAT = "yuv444p"
CRF = 6
GOP = 12
HALF = 0.5  # frame
MEAN_RATE = 0.02  # part by which a container's mean rate may be another than the dataset's


def frame_rate(rate_hz: float) -> Fraction:
    """Convert a rate to the exact fraction that a container stores."""
    return Fraction(rate_hz).limit_denominator(1001)


@dataclass(frozen=True)
class Coding:
    """Encoding of a stream.

    Attributes:
        rate: frames per second.
        gop: largest distance between two key frames.
        crf: constant rate factor of x264; smaller is more faithful.
        pixels: pixel format of the stream.
    """

    rate: Fraction
    gop: int = GOP
    crf: int = CRF
    pixels: str = PIXEL_FORMAT


def encode_video(images: np.ndarray, coding: Coding) -> bytes:
    """Encode ``images`` (T, H, W, 3), uint8, as one mp4 file in memory. yuv420p needs even H and W."""
    options = {"crf": str(coding.crf), "g": str(coding.gop), "bf": "0", "threads": "1", "preset": PRESET}
    options["x264-params"] = REPEATABLE
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream(CODEC, rate=coding.rate, options=options)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = coding.pixels
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=coding.pixels, threads=1
            )
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return buffer.getvalue()


class VideoAppender:
    """Mp4 file that grows by whole encoded episodes, without encoding anything twice.

    Attributes:
        frames: number of frames appended so far.
        size: number of bytes appended so far.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._output = av.open(local(path), "w", format="mp4")
        self._stream: av.VideoStream | None = None
        self._rate = rate
        self.frames = 0
        self.size = 0

    def append(self, clip: bytes, frames: int) -> None:
        """Append a clip of ``frames`` frames from :func:`encode_video`, encoded with the same settings."""
        with av.open(io.BytesIO(clip), "r") as source:
            origin = source.streams.video[0]
            unit = tick(origin)
            if self._stream is None:
                self._stream = self._output.add_stream_from_template(origin)
                self._stream.time_base = unit
            shift = round(Fraction(self.frames) / self._rate / unit)
            for packet in source.demux(origin):
                if packet.dts is None or packet.pts is None:  # flushing packet at the end
                    continue
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = self._stream
                self._output.mux(packet)
        self.frames += frames
        self.size += len(clip)

    def close(self) -> None:
        """Write the index, without which the file cannot be read."""
        self._output.close()


def open_video(path: Path) -> av.container.InputContainer:
    """Open a video for reading; its title and the like may be in any encoding.

    Raises:
        OSError: there is no such file, or it cannot be read.
        av.FFmpegError: it is damaged.
    """
    return av.open(local(path), "r", metadata_errors="replace")


def local(path: Path) -> str:
    """A path as FFmpeg takes it for a file: it takes what stands before a colon for the name of a protocol."""
    return os.path.abspath(path)


@dataclass(frozen=True)
class VideoFacts:
    """Properties of a video stream, read from its container without decoding.

    Attributes:
        height: rows, pixels.
        width: columns, pixels.
        start_s: time of the first frame, seconds.
        end_s: end time of the last readable frame, seconds.
        rate: pictures per second on average, by the container, where that is clearly another rate than expected.
        fault: why its pictures are not 8-bit RGB, and what to do; None where they are.
    """

    height: int
    width: int
    start_s: float
    end_s: float
    rate: float | None
    fault: str | None


def probe_video(path: Path, rate: float, place: str) -> VideoFacts:
    """Read size, times and pixels of a video from its container. Only the packets after the last key frame are read.

    Args:
        path: the file.
        rate: frames per second that it should have.
        place: file, episode and camera, for messages.

    Raises:
        DataError: the file is missing, cut off, or holds no video.
    """
    try:
        with open_video(path) as source:
            if not source.streams.video:
                raise DataError(f"{place}: contains no video stream. Copy the dataset again.")
            if len(source.streams.video) > 1:
                raise DataError(
                    f"{place}: contains {len(source.streams.video)} video streams, and nothing says which of them is "
                    f"the camera's. Write a file of each."
                )
            stream = source.streams.video[0]
            unit = tick(stream)
            start = stream.start_time or 0
            if stream.duration:
                source.seek(stream.duration + start, stream=stream, backward=True)
            # The header of a truncated file still declares the full duration; its packets show the actual one.
            times = [p.pts for p in source.demux(stream) if p.pts is not None and p.size > 0]
            end = float(max(times) * unit) + 1.0 / rate if times else 0.0
            pixels = stream.codec_context.format
            fault = "the codec of its stream is not known" if pixels is None else pixel_fault(pixels)
            mean = _mean_rate(stream, float(unit), rate)
            return VideoFacts(stream.height, stream.width, float(start * unit), end, mean, fault)
    except FileNotFoundError as error:
        raise DataError(f"{place}: the video file is missing. Copy the dataset again.") from error
    except (av.FFmpegError, OSError, AttributeError) as error:  # a stream of no known codec has no size
        raise DataError(
            f"{place}: cannot be read as a video, probably cut off ({error}). Copy it again."
        ) from error


def _mean_rate(stream: av.VideoStream, unit: float, rate: float) -> float | None:
    """Pictures per second where the index of an mp4 file has clearly others than ``rate``; else None."""
    index = stream.index_entries
    steps = len(index) - 1
    if steps < 1 or "mp4" not in stream.container.format.name:  # others list key frames alone
        return None
    lasts = (index[-1].timestamp - index[0].timestamp) * unit
    if lasts <= 0:
        return None
    if abs(steps - lasts * rate) <= HALF + MEAN_RATE * steps:
        return None
    return steps / lasts


def pixel_fault(pixels: av.VideoFormat) -> str | None:
    """Say why a pixel format cannot be read as 8-bit RGB without loss, and what to do; None where it can."""
    depth = max(component.bits for component in pixels.components)
    if depth > 8:
        return (
            f"its pixels have {depth} bits per channel ({pixels.name}), and cameras are read as 8-bit RGB. If it is a "
            f"depth camera, declare it with 'video.is_depth_map': true under 'info' of its feature in info.json, so "
            f"that it is left out; if not, encode the video again with 8 bits"
        )
    if any(component.is_alpha for component in pixels.components):
        return (
            f"its pixels have an alpha channel ({pixels.name}), and cameras are read as 8-bit RGB. Encode the video "
            f"again without alpha"
        )
    return None


def tick(stream: av.VideoStream) -> Fraction:
    """Return the seconds per unit of the stream's time stamps; raises :class:`DataError` when it has none."""
    if stream.time_base is None:
        raise DataError(f"{stream.container.name}: the video stream has no time base")
    return stream.time_base
