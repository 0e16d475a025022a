"""What the page of a dataset shows: its faults, figures and thumbnails, and what a design would read of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import WindowSpec
from wamkit.data import faults, layout
from wamkit.data.contents import Contents
from wamkit.data.findings import Checked
from wamkit.data.survey import Survey, Windows

SHOWN = 4  # episodes whose pictures are shown
WIDE = 160  # columns of a thumbnail, pixels


@dataclass(frozen=True)
class Thumbnail:
    """One small picture.

    Attributes:
        episode: number of the episode.
        camera: name of the camera.
        frame: number of the frame within the episode.
        image: (h, w, 3), uint8, at most :data:`WIDE` columns.
    """

    episode: int
    camera: str
    frame: int
    image: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What a design would read of a dataset.

    Attributes:
        recipe: name of the design's recipe.
        observation: observation spec of the dataset.
        action: action spec of the dataset.
        window: steps of a training window; None where the design cannot be built for the dataset.
        windows: how many there are, and their padding.
        reason: why the design cannot be built.
    """

    recipe: str
    observation: ObservationSpec
    action: ActionSpec
    window: WindowSpec | None
    windows: Windows | None
    reason: str = ""


@dataclass(frozen=True)
class Shown:
    """A dataset as its page shows it.

    Attributes:
        checked: faults, or what a sound dataset holds.
        survey: figures; None where there are faults.
        reading: what a design would read; None where there are faults.
        thumbnails: small pictures.
    """

    checked: Checked
    survey: Survey | None = None
    reading: Reading | None = None
    thumbnails: Sequence[Thumbnail] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures as plain values."""
        return {
            **self.checked.to_json(),
            "survey": None if self.survey is None else self.survey.to_json(),
            "reading": None if self.reading is None else dataclasses.asdict(self.reading),
        }


def thumbnails(contents: Contents) -> list[Thumbnail]:
    """First, middle and last frame of some episodes by every camera; a picture that is damaged is reported."""
    rows = contents.episodes
    chosen = sorted({round(i) for i in np.linspace(0, len(rows) - 1, SHOWN)})
    wanted = {
        rows[i].start + step: (i, step)
        for i in chosen
        for step in sorted({0, (len(rows[i]) - 1) // 2, len(rows[i]) - 1})
    }
    reader, keys = contents.frame_reader(), layout.camera_keys(contents.features)
    found = []
    for camera in contents.cameras:
        with faults.apart("picture", feature=keys[camera]):
            for frame, image in reader.each(camera, np.array(sorted(wanted))):
                episode, step = wanted[frame]
                found.append(Thumbnail(episode, camera, step, _small(image)))
    return found


def _small(image: np.ndarray) -> np.ndarray:
    """Image (3, H, W) as (h, w, 3), at most :data:`WIDE` columns."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if picture.width > WIDE:
        height = max(1, round(picture.height * WIDE / picture.width))
        picture = picture.resize((WIDE, height), Image.Resampling.BOX)
    return np.asarray(picture)
