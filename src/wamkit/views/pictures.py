"""Size of pictures: letterbox, middle crop or stretch, each pixel averaged over the area that it covers.

What lies in the plane of a picture follows it: maps of one value per pixel, points, and the lens of its camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wamkit.contract.specs import CameraSpec
from wamkit.views.config import Fit, ViewConfig

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Sizing:
    """Change of a picture's size.

    Attributes:
        source: recorded rows and columns.
        target: rows and columns that the design sees.
        fit: how another shape is met.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    fit: Fit

    @classmethod
    def of(cls, config: ViewConfig, camera: CameraSpec) -> Sizing:
        """Sizing of one camera's pictures."""
        source = camera.height, camera.width
        target = source
        if config.size:
            target = config.size[0], config.size[1]
        elif config.most and (max(source) > config.most or any(side % config.multiple for side in source)):
            target = config.most, config.most
        return cls(source, target, config.fit)

    @property
    def same(self) -> bool:
        """True where pictures stay as they are."""
        return self.source == self.target

    @property
    def cut(self) -> tuple[float, float, float, float]:
        """Part of the recorded picture that is kept: left, upper, right and lower edge, pixels."""
        (rows, columns), (high, wide) = self.source, self.target
        if self.fit != "crop":
            return 0.0, 0.0, float(columns), float(rows)
        scale = max(high / rows, wide / columns)
        # Rounding may lead past the edge.
        left, upper = max(0.0, (columns - wide / scale) / 2), max(0.0, (rows - high / scale) / 2)
        return left, upper, columns - left, rows - upper

    @property
    def place(self) -> Box:
        """Where the kept part lies in the picture that is seen: left, upper, right and lower edge, pixels."""
        (rows, columns), (high, wide) = self.source, self.target
        if self.fit != "letterbox":
            return 0, 0, wide, high
        scale = min(high / rows, wide / columns)
        inner = max(1, round(columns * scale)), max(1, round(rows * scale))
        left, upper = (wide - inner[0]) // 2, (high - inner[1]) // 2
        return left, upper, left + inner[0], upper + inner[1]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels that are seen per recorded pixel, along columns and rows (x and y)."""
        (left, upper, right, lower), (x0, y0, x1, y1) = self.place, self.cut
        return (right - left) / (x1 - x0), (lower - upper) / (y1 - y0)

    @property
    def shift(self) -> tuple[float, float]:
        """Where the corner of the recorded picture lies in the picture that is seen, x and y, pixels."""
        (left, upper, _, _), (x0, y0, _, _), (x, y) = self.place, self.cut, self.scale
        return left - x0 * x, upper - y0 * y

    @property
    def lens_error(self) -> float:
        """Pixels by which a lens with one focal length and a central axis misses the picture that is seen, at most.

        Letterbox rounds sides and bars to whole pixels, so it is below one pixel; stretch changes the lens itself.
        """
        (x, y), (right, down), (x0, y0, x1, y1) = self.scale, self.shift, self.cut
        (rows, columns), (high, wide), zoom = self.source, self.target, self.zoom
        sideways = [abs(right + x * at - wide / 2 - (at - columns / 2) * zoom) for at in (x0, x1)]
        upright = [abs(down + y * at - high / 2 - (at - rows / 2) * zoom) for at in (y0, y1)]
        return max(*sideways, *upright)

    @property
    def zoom(self) -> float:
        """Focal length of the picture that is seen, in its pixels, per recorded focal length in recorded pixels."""
        if self.fit != "letterbox":
            return self.scale[1]
        (rows, columns), (high, wide) = self.source, self.target
        return min(high / rows, wide / columns)  # before sides are rounded

    def map(self, values: Tensor) -> Tensor:
        """Bring maps (..., h, w) to the target size, (..., H, W), each pixel from the nearest one, and 0 in the bars.

        Means would invent classes and distances that are nowhere in the scene.
        """
        if self.same:
            return values
        (left, upper, right, lower), (x0, y0, x1, y1) = self.place, self.cut
        rows = _nearest(lower - upper, y0, y1, self.source[0])
        columns = _nearest(right - left, x0, x1, self.source[1])
        out = values.new_zeros((*values.shape[:-2], *self.target))
        out[..., upper:lower, left:right] = values[..., rows[:, None], columns]
        return out

    def points(self, values: Tensor) -> Tensor:
        """Move points (..., 2), x and y in recorded pixels, to where they are seen; negative ones are none and stay."""
        if self.same:
            return values
        moved = values.float() * values.new_tensor(self.scale, dtype=torch.float32)
        moved = moved + values.new_tensor(self.shift, dtype=torch.float32)
        return torch.where((values < 0).any(dim=-1, keepdim=True), values.float(), moved)

    def lens(self, camera: Tensor) -> Tensor:
        """Change cameras (..., 8), whose last entry is the vertical field of view in degrees, to that which is seen."""
        if self.same:
            return camera
        half = torch.deg2rad(camera[..., 7:].double()) / 2
        seen = torch.atan(half.tan() * (self.target[0] / (self.source[0] * self.zoom)))
        return torch.cat((camera[..., :7], torch.rad2deg(2 * seen).to(camera.dtype)), dim=-1)

    def image(self, image: np.ndarray) -> np.ndarray:
        """Bring one picture (h, w, 3), uint8, to the target size."""
        if self.same:
            return image
        left, upper, right, lower = self.place
        inner = right - left, lower - upper
        x0, y0, x1, y1 = self.cut
        whole = x1 - x0 == self.source[1] and y1 - y0 == self.source[0]
        if whole and self.source[1] % inner[0] == 0 and self.source[0] % inner[1] == 0:
            # The same means, rounded once, in a third of the time.
            small = Image.fromarray(image).reduce((self.source[1] // inner[0], self.source[0] // inner[1]))
        else:
            small = _resized(Image.fromarray(image), inner, (x0, y0, x1, y1))
        if inner == (self.target[1], self.target[0]):
            return np.asarray(small)
        out = np.zeros((*self.target, 3), np.uint8)
        out[upper:lower, left:right] = np.asarray(small)
        return out

    def tensor(self, images: Tensor) -> Tensor:
        """Bring pictures (..., 3, h, w), uint8, to the target size, (..., 3, H, W)."""
        if self.same:
            return images
        flat = images.reshape(-1, 3, *self.source).cpu().numpy().transpose(0, 2, 3, 1)
        small = np.stack([self.image(np.ascontiguousarray(image)) for image in flat]).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(small)).reshape(*images.shape[:-2], *self.target)


def _resized(
    image: Image.Image, inner: tuple[int, int], cut: tuple[float, float, float, float]
) -> Image.Image:
    """Part of a picture, left, upper, right and lower edge, in ``inner`` columns and rows."""
    x0, y0, x1, y1 = cut
    # The box filter of an enlargement would repeat pixels, and the other one is no mean over an area that shrinks.
    across, down = (
        Image.Resampling.BOX if count <= length else Image.Resampling.BILINEAR
        for count, length in zip(inner, (x1 - x0, y1 - y0), strict=True)
    )
    if across == down:
        return image.resize(inner, across, box=cut)
    narrow = image.resize((inner[0], image.height), across, box=(x0, 0, x1, image.height))
    return narrow.resize(inner, down, box=(0, y0, inner[0], y1))


def _nearest(count: int, first: float, last: float, recorded: int) -> Tensor:
    """Recorded pixels that hold the centres of ``count`` pixels between ``first`` and ``last``, (count,) int64."""
    centres = first + (torch.arange(count, dtype=torch.float64) + 0.5) * ((last - first) / count)
    return centres.floor().long().clamp(0, recorded - 1)
