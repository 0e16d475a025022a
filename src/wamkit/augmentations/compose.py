"""Composition of augmentations: a list of them, applied to a batch in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from wamkit.augmentations.colour import Blur, Colour, Noise
from wamkit.contract.augmenting import (
    AugmentConfig,
    Draws,
    GeometricAugment,
    PictureAugment,
    WindowAugment,
    is_map,
)
from wamkit.contract.data import DataSpec
from wamkit.contract.rows import views_of, with_views
from wamkit.contract.types import Batch

Preset = Literal["standard"]
# Name -> operations at usual strengths. None moves pixels: where cameras stand still, places in the picture are places
# in the world, and a design that cannot trust them relies on its state alone.
PRESETS: Mapping[Preset, tuple[AugmentConfig, ...]] = {
    "standard": (
        Colour(brightness=0.4, contrast=0.3, saturation=0.3, hue=0.03, probability=0.5),
        Blur(sigma=2.0, probability=0.2),
        Noise(std=30.0, probability=0.3),
    )
}


def augment(batch: Batch, operations: Sequence[AugmentConfig], data: DataSpec, seed: int, step: int) -> Batch:
    """Apply augmentations in order to all observations of a batch: present, future, goal and milestones.

    Draws are a function of the seed, the step, the place in the list, the row and the camera.

    Args:
        batch: windows on the CPU.
        operations: augmentations that were checked against the design.
        data: description of the data.
        seed: seed of the run.
        step: step that the batch is for.
    """
    draws = Draws.of(seed, step, range(batch.observation.batch_size))
    planes = Planes(batch, data) if any(isinstance(o, PictureAugment) for o in operations) else None
    for place, operation in enumerate(operations):
        if isinstance(operation, WindowAugment):
            batch = operation.apply(batch, draws.at(place), data)
        elif isinstance(operation, PictureAugment) and planes is not None:
            planes.apply(operation, draws.at(place))
    return batch if planes is None else planes.written(batch)


class Planes:
    """Pictures and maps of a batch, side by side in time and in floating point, so that they are rounded once.

    Args:
        batch: windows.
        data: description of the data, which tells maps from other extras.
    """

    def __init__(self, batch: Batch, data: DataSpec) -> None:
        views = list(views_of(batch).values())
        self._steps = [view.pad.shape[1] for view in views]
        self._pictures = {
            name: torch.cat([view.images[name] for view in views], dim=1).float()
            for name in batch.observation.images
        }
        maps = [name for name in batch.observation.extras if is_map(name, data)]
        self._maps = {name: torch.cat([view.extras[name] for view in views], dim=1) for name in maps}

    def apply(self, operation: PictureAugment, draws: Draws) -> None:
        """Change the pictures of every camera, and the maps that lie in the same plane."""
        for camera in operation.cameras or self._pictures:
            here = draws.at(camera)
            rows = here.chance("applied", operation.probability)
            if not bool(rows.any()):
                continue
            chosen, frames = here.only(rows), self._pictures[camera]
            if bool(rows.all()):
                self._pictures[camera] = operation.pictures(frames, chosen)
            else:
                frames[rows] = operation.pictures(frames[rows], chosen)
            if isinstance(operation, GeometricAugment):
                for name in [name for name in self._maps if name.rpartition(".")[2] == camera]:
                    values = self._maps[name]
                    moved = operation.move(values[rows][:, :, None].float(), chosen, nearest=True)
                    values[rows] = moved[:, :, 0].to(values.dtype)

    def written(self, batch: Batch) -> Batch:
        """The batch with these pictures, as bytes, and maps."""
        pictures = {
            name: frames.round_().clamp_(0, 255).to(torch.uint8) for name, frames in self._pictures.items()
        }
        images, maps = self._split(pictures), self._split(self._maps)
        changed = {
            name: replace(view, images=images[i], extras={**view.extras, **maps[i]})
            for i, (name, view) in enumerate(views_of(batch).items())
        }
        return with_views(batch, changed)

    def _split(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Tensors per observation, in the order of :func:`views_of`."""
        parts = {name: tensor.split(self._steps, dim=1) for name, tensor in tensors.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(self._steps))]
