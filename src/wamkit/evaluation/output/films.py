"""Films of episodes as mp4 files beside a report, and links to them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wamkit.data.video import Coding, encode_video, frame_rate
from wamkit.evaluation.closed_loop.recording import Recording
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.report import Report
from wamkit.storage.documents import write_atomically

FILMS_FOLDER = "films"
FAILED = ("failure", "timeout")  # statuses of failed episodes
LEAST_HEIGHT = 256  # pixels; smaller pictures are enlarged to be visible on a phone
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,-]*(/[A-Za-z0-9_.+=,-]+)*")
UNPLAIN = re.compile(r"[^A-Za-z0-9_.+=,-]")
LONGEST = 100  # characters of a key in a file's name; file systems allow 255 bytes
CRF = 20  # constant rate factor of the h264 encoding


def choose_failures(episodes: Sequence[EpisodeRecord], most: int) -> list[EpisodeRecord]:
    """Select at most ``most`` failed episodes, from the dimensions in turn; errors are not failures."""
    by_dimension: dict[str, list[EpisodeRecord]] = {}
    for episode in episodes:
        if episode.status in FAILED:
            by_dimension.setdefault(episode.dimension, []).append(episode)
    longest = max((len(failed) for failed in by_dimension.values()), default=0)
    in_turn = [failed[i] for i in range(longest) for failed in by_dimension.values() if i < len(failed)]
    return in_turn[:most]


def file_name(key: str, suffix: str) -> str:
    """File name for an episode's key, without slashes or spaces; no two keys share one.

    A key that is not plain, because it has characters that a file system or a shell reads, or because two keys would
    look alike, is shortened to what is plain in it and told apart by its hash.
    """
    plain = key.replace("/", "__").replace(" ", "_")
    if PLAIN.fullmatch(key) and "__" not in key and len(key) < LONGEST:
        return plain + suffix
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{UNPLAIN.sub('_', plain)[:LONGEST]}-{digest}{suffix}"


def write_film(recording: Recording, folder: Path, rate_hz: float) -> Path:
    """Write all cameras side by side, one frame per tick, as h264 that every browser plays; returns the file."""
    path = folder / file_name(recording.plan.key, ".mp4")
    images = np.stack([_side_by_side(frame["images"]) for frame in recording.frames])
    # Phones play yuv420p only. Its colour is subsampled by two, which an even enlargement hides.
    write_atomically(path, encode_video(images, Coding(frame_rate(rate_hz), crf=CRF, pixels="yuv420p")))
    return path


def _side_by_side(images: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join the pictures (H, W, 3) of all cameras to (H', W', 3), H' even and at least 256, padded with black below."""
    height = max(image.shape[0] for image in images.values())
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, 0), (0, 0))) for i in images.values()]
    factor = 2 * max(1, -(-LEAST_HEIGHT // (2 * height)))
    return np.concatenate(padded, axis=1).repeat(factor, axis=0).repeat(factor, axis=1)


def links(report: Report, folder: Path, page: Path) -> dict[str, str]:
    """Addresses, relative to ``page``, of the existing films of failed episodes, by episode key.

    Args:
        report: report of the episodes.
        folder: folder of the report.
        page: file of the page that links to the films.
    """
    addresses = {}
    for episode in report.episodes:
        film = folder / FILMS_FOLDER / file_name(episode.key, ".mp4")
        if episode.status in FAILED and film.is_file():
            addresses[episode.key] = quote(Path(os.path.relpath(film, page.parent)).as_posix())
    return addresses
