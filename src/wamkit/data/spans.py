"""Spans of the episodes in video files, checked against lengths, against each other and against the pictures' times.

Frame k of an episode is the picture whose time is nearest to ``from_timestamp + k / fps``. A dataset that is written
elsewhere is off by slivers of a frame, because rates such as 29.97 Hz are rounded; a whole frame is a fault.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.contract.specs import CameraSpec
from wamkit.data import faults, layout, video
from wamkit.data.catalog import EpisodeRow
from wamkit.data.seals import stored
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError
from wamkit.progress import track

NEAR = 0.4  # part of the time between two frames by which a picture may miss the time of its frame
DIGESTS = "videos"  # entry under wamkit's key of info.json
HALF = 0.5  # where the next frame begins to be nearer

LOG = logging.getLogger(__name__)


def by_file(episodes: Sequence[EpisodeRow], key: str) -> dict[Path, list[EpisodeRow]]:
    """Episodes of each video file of the feature ``key``, in the order of the table."""
    files: dict[Path, list[EpisodeRow]] = defaultdict(list)
    for episode in episodes:
        if key in episode.videos:
            files[episode.videos[key].path].append(episode)
    return files


def recorded_digests(root: Path, info: Mapping[str, Any]) -> dict[Path, str]:
    """Video file -> SHA-256 of its bytes, as wamkit's writer stores it; empty for a dataset written elsewhere."""
    return {root / name: value for name, value in stored(info, DIGESTS, str(root / layout.INFO)).items()}


def check_videos(
    episodes: Sequence[EpisodeRow],
    cameras: Mapping[str, CameraSpec],
    keys: Mapping[str, str],
    fps: float,
    shared: bool = True,
) -> None:
    """Report every video without its camera's size and pixels, and every episode whose times do not fit its video.

    Reads the containers and decodes no picture. ``shared`` is false where every episode has a video of its own, so
    that more pictures are never those of an episode that was left out of the table.
    """
    owners: dict[Path, str] = {}
    for name, camera in cameras.items():
        key = keys[name]
        for path, rows in track(by_file(episodes, key).items(), "check the videos"):
            alone = {"episode": rows[0].index} if len(rows) == 1 else {}
            with faults.apart("span", file=path, feature=key, **alone):
                if owners.setdefault(path, name) != name:
                    raise DataError(
                        f"{path}: cameras {owners[path]!r} and {name!r} share this file. {COPY_AGAIN}"
                    )
                # Each fault of a kind is reported; behind it the next kind would only repeat it.
                facts = _probe(path, rows, name, camera, fps)
                _check_rate(rows, key, name, facts, fps)
                with faults.together():
                    for episode in rows:
                        _check_length(episode, key, name, fps)
                with faults.together():
                    _check_order(rows, key, name, fps)
                with faults.together():
                    _check_ends(rows, key, name, facts, fps)
                _check_rest(rows, key, name, facts, fps, shared)


def _probe(
    path: Path, rows: Sequence[EpisodeRow], name: str, camera: CameraSpec, fps: float
) -> video.VideoFacts:
    """Facts of a video that has the size and the pixels of its camera."""
    place = f"{path}, episode {rows[0].index}, camera {name!r}"
    with faults.together(), faults.apart("video"):
        facts = video.probe_video(path, fps, place)
        if (facts.height, facts.width) != (camera.height, camera.width):
            raise DataError(
                f"{place}: the video is {facts.height}x{facts.width}, but info.json declares {camera}. "
                f"{COPY_AGAIN}"
            )
        if facts.fault:
            raise DataError(f"{place}: {facts.fault}.")
    return facts


def _check_rate(rows: Sequence[EpisodeRow], key: str, name: str, facts: video.VideoFacts, fps: float) -> None:
    """The container holds pictures at the rate of the dataset, unless the table leaves time between the episodes."""
    gaps = [
        other.videos[key].start_s - one.videos[key].start_s - len(one) / fps
        for one, other in itertools.pairwise(rows)
    ]
    if facts.rate is not None and sum(map(abs, gaps)) * fps <= 1:
        raise DataError(
            f"{rows[0].videos[key].path}, episode {rows[0].index}, camera {name!r}: the video has {facts.rate:.4f} "
            f"pictures per second on average, but fps is {fps:g} in info.json: correct it, or encode the video again "
            f"at {fps:g} Hz."
        )


def _check_length(episode: EpisodeRow, key: str, name: str, fps: float) -> None:
    """The span lasts as long as the episode, to within half a frame."""
    span = episode.videos[key]
    place = f"{span.path}, episode {episode.index}, camera {name!r}"
    if not (math.isfinite(span.start_s) and math.isfinite(span.end_s)):
        faults.report(
            "span",
            f"{place}: the span from {span.start_s} to {span.end_s} s is not finite. {COPY_AGAIN}",
            episode=episode.index,
        )
        return
    lasts, expected = span.end_s - span.start_s, len(episode) / fps
    if not abs(lasts - expected) * fps <= HALF:
        faults.report(
            "span",
            f"{place}: from_timestamp {span.start_s:.6f} and to_timestamp {span.end_s:.6f} are {lasts:.6f} s apart, "
            f"but {len(episode)} frames at {fps:g} Hz last {expected:.6f} s: "
            f"{abs(lasts - expected) * fps:.2f} frames off. Video and table were not recorded together, or fps is "
            f"wrong in info.json. {COPY_AGAIN}",
            episode=episode.index,
        )


def _check_order(rows: Sequence[EpisodeRow], key: str, name: str, fps: float) -> None:
    """The episodes of a file follow each other as in the table, and no two show the same pictures."""
    for one, other in itertools.pairwise(rows):
        end = one.videos[key].start_s + len(one) / fps
        if (end - other.videos[key].start_s) * fps > 2 * NEAR:
            faults.report(
                "span",
                f"{one.videos[key].path}, camera {name!r}: episode {one.index} ends at {end:.6f} s, but episode "
                f"{other.index} begins at {other.videos[key].start_s:.6f} s, before that. {COPY_AGAIN}",
                episode=other.index,
            )


def _check_ends(rows: Sequence[EpisodeRow], key: str, name: str, facts: video.VideoFacts, fps: float) -> None:
    """The video begins no later and ends no earlier than its episodes."""
    for episode in rows:
        span = episode.videos[key]
        place = f"{span.path}, episode {episode.index}, camera {name!r}"
        late = (facts.start_s - span.start_s) * fps
        if late > NEAR:
            faults.report(
                "span",
                f"{place}: the video begins at {facts.start_s:.3f} s, {late:.1f} frames after from_timestamp "
                f"{span.start_s:.3f}. {COPY_AGAIN} Or encode it again so that it begins at 0 s.",
                episode=episode.index,
                frame=0,
            )
        end = span.start_s + len(episode) / fps
        missing = round((end - facts.end_s) * fps)
        if missing > 0:
            faults.report(
                "span",
                f"{place}: the video ends at {facts.end_s:.3f} s, but the episode requires {end:.3f} s "
                f"({missing} frames too few). {COPY_AGAIN} Or record the episode again.",
                episode=episode.index,
                frame=max(len(episode) - missing, 0),
            )


def _check_rest(
    rows: Sequence[EpisodeRow], key: str, name: str, facts: video.VideoFacts, fps: float, shared: bool
) -> None:
    """Pictures of no episode: a few are a fault, as many as an episode has are one that was left out of the table."""
    at, left_out = facts.start_s, 0
    shortest = min(len(row) for row in rows) if shared else math.inf
    begins = [row.videos[key].start_s for row in rows]
    ends = [row.videos[key].start_s + len(row) / fps for row in rows]
    for begin, end in zip([*begins, facts.end_s], [*ends, facts.end_s], strict=True):
        rest = round((begin - at) * fps)
        if 0 < rest < shortest:
            faults.report(
                "span",
                f"{rows[0].videos[key].path}, camera {name!r}: {rest} pictures from {at:.3f} s on belong to no "
                f"episode{' and are too few for one' * shared}, so it is not known which picture belongs to which "
                f"frame. "
                f"{COPY_AGAIN} Or cut them off the video.",
            )
        left_out += max(rest, 0)
        at = end
    if left_out:
        LOG.warning(
            "%s: %d pictures belong to no episode and are not read.", rows[0].videos[key].path, left_out
        )


def find_pictures(
    times: np.ndarray, rows: Sequence[EpisodeRow], key: str, name: str, fps: float
) -> dict[int, int]:
    """Find the pictures of every episode in a file.

    Args:
        times: times of all pictures of the file, ascending, seconds.
        rows: the file's episodes in the order of the table, which is that of their spans.
        key: feature of the camera.
        name: name of the camera, for messages.
        fps: frames per second of the dataset.

    Returns:
        episode -> number of the picture of its first frame; those of its other frames follow without a gap.

    Raises:
        DataError: a frame has no picture near its time, or there are pictures between the frames.
    """
    found: dict[int, int] = {}
    with faults.together():
        for row in rows:
            numbers = _nearest(times, row.videos[key].start_s + np.arange(len(row)) / fps)
            _check_numbers(times, numbers, row, key, name, fps)
            found[row.index] = int(numbers[0])
    for one, other in itertools.pairwise(rows):
        between_s = other.videos[key].start_s - one.videos[key].start_s - len(one) / fps
        extra = found[other.index] - found[one.index] - len(one)
        if extra < 0 or extra > between_s * fps + 2 * NEAR:
            what = f"{extra} pictures of no episode" if extra > 0 else "a picture that both show"
            raise DataError(
                f"{one.videos[key].path}, camera {name!r}: {what} between episodes {one.index} and {other.index}, "
                f"which the table sets {between_s * fps:.2f} frames apart. {COPY_AGAIN}"
            )
    return found


def _check_numbers(
    times: np.ndarray, numbers: np.ndarray, row: EpisodeRow, key: str, name: str, fps: float
) -> None:
    """Report frames of an episode that have no picture near their time, or pictures between the frames."""
    span = row.videos[key]
    place = f"{span.path}, episode {row.index}, camera {name!r}"
    expected = span.start_s + np.arange(len(row)) / fps
    off = times[numbers] - expected
    far = np.flatnonzero(~(np.abs(off) * fps <= NEAR))
    between = np.flatnonzero(np.diff(numbers) != 1)
    if len(far):
        frame = int(far[0])
        message = (
            f"{place}: frame {frame} is shown at {expected[frame]:.6f} s, but the nearest picture of the video "
            f"is at {times[numbers[frame]]:.6f} s, {abs(off[frame]) * fps:.2f} frames off (at most {NEAR:g})."
        )
    elif len(between):
        frame = int(between[0])
        message = (
            f"{place}: between the pictures of frames {frame} and {frame + 1} there are "
            f"{numbers[frame + 1] - numbers[frame] - 1} others."
        )
    else:
        return
    faults.report("picture", f"{message} {_rates(times, fps)}", episode=row.index, frame=frame)


def _nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Number of the nearest of ``times`` (F,), ascending, to each of ``wanted`` (T,)."""
    middles = (times[1:] + times[:-1]) / 2
    return np.searchsorted(middles, wanted)


def _rates(times: np.ndarray, fps: float) -> str:
    """What to do about times that do not fit."""
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else fps
    if abs(rate / fps - 1) > 1e-5:
        return (
            f"The video has {rate:.4f} pictures per second on average, but fps is {fps:g} in info.json: correct it, "
            f"or encode the video again at {fps:g} Hz."
        )
    return f"The video lacks pictures, or has others in between. {COPY_AGAIN} Or record the episode again."
