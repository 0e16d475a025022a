"""Films of episodes as mp4 beside a report, and links to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wamkit.data.video import Coding, encode_video, frame_rate
from wamkit.evaluation.closed_loop.recording import Recording
from wamkit.evaluation.report.documents import write_atomically
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.report import Report

FOLDER = "films"
FAILED = ("failure", "timeout")
LEAST_HEIGHT = 256  # pixels: smaller cameras are enlarged, so that a phone shows more than a stamp
CRF = 20


def choose_failures(episodes: Sequence[EpisodeRecord], most: int) -> list[EpisodeRecord]:
    """At most ``most`` failed episodes, dealt over the dimensions in turn; errors are not failures."""
    piles: dict[str, list[EpisodeRecord]] = {}
    for episode in episodes:
        if episode.status in FAILED:
            piles.setdefault(episode.dimension, []).append(episode)
    deep = max((len(pile) for pile in piles.values()), default=0)
    dealt = [pile[i] for i in range(deep) for pile in piles.values() if i < len(pile)]
    return dealt[:most]


def file_name(key: str, suffix: str) -> str:
    """A file's name for an episode's key, without folders or spaces."""
    return key.replace("/", "__").replace(" ", "_") + suffix


def write_film(recording: Recording, folder: Path, rate_hz: float) -> Path:
    """All cameras side by side, one frame per tick, as h264 that every browser plays."""
    path = folder / file_name(recording.plan.key, ".mp4")
    images = np.stack([_side_by_side(frame["images"]) for frame in recording.frames])
    # yuv420p because phones play nothing else; an even enlargement keeps its coarse colours from showing.
    write_atomically(path, encode_video(images, Coding(frame_rate(rate_hz), crf=CRF, pixels="yuv420p")))
    return path


def _side_by_side(images: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(H, W, 3) of every camera -> (H', W', 3), H' even and at least 256; lower pictures stand on black."""
    height = max(image.shape[0] for image in images.values())
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, 0), (0, 0))) for i in images.values()]
    factor = 2 * max(1, -(-LEAST_HEIGHT // (2 * height)))
    return np.concatenate(padded, axis=1).repeat(factor, axis=0).repeat(factor, axis=1)


def links(report: Report, folder: Path, page: Path) -> dict[str, str]:
    """Key of a failed episode -> address of its film relative to ``page``, for the films that are there.

    Args:
        report: the report.
        folder: where it lies.
        page: the page that links to them.
    """
    found = {}
    for episode in report.episodes:
        film = folder / FOLDER / file_name(episode.key, ".mp4")
        if episode.status in FAILED and film.is_file():
            found[episode.key] = quote(Path(os.path.relpath(film, page.parent)).as_posix())
    return found
